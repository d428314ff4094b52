"""The public functions: arguments checked once, then the native op or the reference."""

from .at_loss import at_loss
from .cckd_loss import cckd_loss
from .dist_loss import dist_loss
from .dkd_loss import dkd_loss
from .fsp_loss import fsp_loss
from .hint_loss import hint_loss
from .irg_edge_loss import irg_edge_loss
from .irg_transform_loss import irg_transform_loss
from .kd_loss import kd_loss
from .mixture_kl import mixture_kl
from .mutual_kl import mutual_kl
from .pairwise_distance import pairwise_distance
from .pkt_loss import pkt_loss
from .rbf_correlation import rbf_correlation
from .rkd_angle_loss import rkd_angle_loss
from .rkd_distance_loss import rkd_distance_loss
from .soft_cross_entropy import soft_cross_entropy
from .sp_loss import sp_loss
from .standardize_logits import standardize_logits
from .triplet_angle import triplet_angle
from .vid_loss import vid_loss

__all__ = [
    "at_loss",
    "cckd_loss",
    "dist_loss",
    "dkd_loss",
    "fsp_loss",
    "hint_loss",
    "irg_edge_loss",
    "irg_transform_loss",
    "kd_loss",
    "mixture_kl",
    "mutual_kl",
    "pairwise_distance",
    "pkt_loss",
    "rbf_correlation",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "soft_cross_entropy",
    "sp_loss",
    "standardize_logits",
    "triplet_angle",
    "vid_loss",
]
