"""The losses of Knowledge-Distillation-Zoo's kd_losses, under their names; docs/migrate/kd_zoo.md.

Written from the formulas alone. The teacher gets a gradient where no class says otherwise, unless
it comes without its graph.
"""

from .contrast import CRD
from .gradients import LwM, Sobolev
from .logits import BSS, DML, Logits, SoftTarget
from .maps import AB, AT, FSP, FT, NST, Hint
from .regressors import AFD, OFD, VID
from .relations import CC, IRG, RKD, SP, PKTCosSim

__all__ = [
    "AB",
    "AFD",
    "AT",
    "BSS",
    "CC",
    "CRD",
    "DML",
    "FSP",
    "FT",
    "IRG",
    "NST",
    "OFD",
    "RKD",
    "SP",
    "VID",
    "Hint",
    "Logits",
    "LwM",
    "PKTCosSim",
    "Sobolev",
    "SoftTarget",
]
