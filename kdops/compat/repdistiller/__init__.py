"""The losses of RepDistiller's distiller_zoo and of its crd, under their names.

docs/migrate/repdistiller.md says what differs.
"""

from .._zoos.alias import AliasMethod
from .._zoos.contrast import Embed, Normalize
from .contrast import ContrastLoss, ContrastMemory, CRDLoss
from .logits import DistillKL
from .maps import FSP, KDSVD, ABLoss, Attention, FactorTransfer, HintLoss, NSTLoss, VIDLoss
from .relations import PKT, Correlation, RKDLoss, Similarity

__all__ = [
    "FSP",
    "KDSVD",
    "PKT",
    "ABLoss",
    "AliasMethod",
    "Attention",
    "CRDLoss",
    "ContrastLoss",
    "ContrastMemory",
    "Correlation",
    "DistillKL",
    "Embed",
    "FactorTransfer",
    "HintLoss",
    "NSTLoss",
    "Normalize",
    "RKDLoss",
    "Similarity",
    "VIDLoss",
]
