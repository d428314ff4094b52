"""The public functions: arguments checked once, then the native op or the reference."""

from .cckd_loss import cckd_loss
from .irg_edge_loss import irg_edge_loss
from .kd_loss import kd_loss
from .pairwise_distance import pairwise_distance
from .pkt_loss import pkt_loss
from .rbf_correlation import rbf_correlation
from .rkd_angle_loss import rkd_angle_loss
from .rkd_distance_loss import rkd_distance_loss
from .soft_cross_entropy import soft_cross_entropy
from .sp_loss import sp_loss
from .triplet_angle import triplet_angle

__all__ = [
    "cckd_loss",
    "irg_edge_loss",
    "kd_loss",
    "pairwise_distance",
    "pkt_loss",
    "rbf_correlation",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "soft_cross_entropy",
    "sp_loss",
    "triplet_angle",
]
