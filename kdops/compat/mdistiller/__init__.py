"""The losses of mdistiller's distillers, under their names; docs/migrate/mdistiller.md."""

from .._zoos.alias import AliasMethod
from .._zoos.contrast import Embed, Normalize
from .contrast import ContrastLoss, ContrastMemory
from .logits import dkd_loss, kd_loss
from .maps import (
    at_loss,
    feat_loss,
    hcl_loss,
    kdsvd_loss,
    nst_loss,
    single_stage_at_loss,
    single_stage_nst_loss,
    vid_loss,
)
from .relations import pkt_loss, rkd_loss, similarity_loss, sp_loss

__all__ = [
    "AliasMethod",
    "ContrastLoss",
    "ContrastMemory",
    "Embed",
    "Normalize",
    "at_loss",
    "dkd_loss",
    "feat_loss",
    "hcl_loss",
    "kd_loss",
    "kdsvd_loss",
    "nst_loss",
    "pkt_loss",
    "rkd_loss",
    "similarity_loss",
    "single_stage_at_loss",
    "single_stage_nst_loss",
    "sp_loss",
    "vid_loss",
]
