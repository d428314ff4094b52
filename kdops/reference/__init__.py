"""The losses in the shortest readable PyTorch: the fallback, and in float64 the oracle.

Every function is differentiable twice in both inputs and leaves the choice of what gets a gradient
to its caller. Half types are computed in float32.
"""

from .feature_maps import at_loss, fsp_loss, hint_loss, vid_loss
from .logits import dist_loss, standardize_logits
from .maps import (
    pairwise_distance,
    rbf_correlation,
    triplet_angle,
)
from .peers import mixture_kl, mutual_kl
from .probabilities import pkt_loss, sp_loss
from .relations import (
    cckd_loss,
    irg_edge_loss,
    irg_transform_loss,
    rkd_angle_loss,
    rkd_distance_loss,
)
from .rows import kd_loss, soft_cross_entropy

__all__ = [
    "at_loss",
    "cckd_loss",
    "dist_loss",
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
