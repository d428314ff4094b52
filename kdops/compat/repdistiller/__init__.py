"""The losses of RepDistiller's distiller_zoo, under their names; docs/migrate/repdistiller.md."""

from .logits import DistillKL
from .maps import FSP, KDSVD, ABLoss, Attention, FactorTransfer, HintLoss, NSTLoss, VIDLoss
from .relations import PKT, Correlation, RKDLoss, Similarity

__all__ = [
    "FSP",
    "KDSVD",
    "PKT",
    "ABLoss",
    "Attention",
    "Correlation",
    "DistillKL",
    "FactorTransfer",
    "HintLoss",
    "NSTLoss",
    "RKDLoss",
    "Similarity",
    "VIDLoss",
]
