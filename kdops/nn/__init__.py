"""Modules over kdops.functional: losses with their options, and the parts that have parameters."""

from .grad_rescale import GradRescale, grad_rescale
from .hint import HintRegressor, VIDLoss
from .information_flow import InformationFlowLoss, information_flow, match_layers
from .losses import (
    CCKDLoss,
    IRGLoss,
    IRGTransformLoss,
    KDLoss,
    PKTLoss,
    RKDAngleLoss,
    RKDDistanceLoss,
    RKDLoss,
    SoftCrossEntropyLoss,
    SPLoss,
)
from .relatives import ATLoss, DISTLoss, DKDLoss, FSPLoss, HintLoss

__all__ = [
    "ATLoss",
    "CCKDLoss",
    "DISTLoss",
    "DKDLoss",
    "FSPLoss",
    "GradRescale",
    "HintLoss",
    "HintRegressor",
    "IRGLoss",
    "IRGTransformLoss",
    "InformationFlowLoss",
    "KDLoss",
    "PKTLoss",
    "RKDAngleLoss",
    "RKDDistanceLoss",
    "RKDLoss",
    "SPLoss",
    "SoftCrossEntropyLoss",
    "VIDLoss",
    "grad_rescale",
    "information_flow",
    "match_layers",
]
