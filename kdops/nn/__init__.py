"""Modules over kdops.functional: losses with their options, and the parts that have parameters."""

from .attention import PeerAttention
from .codistillation import CodistillationLoss
from .ensemble_weights import GeneralEnsembleWeights, linear_ensemble_weights
from .gate import EnsembleGate
from .grad_rescale import GradRescale, grad_rescale
from .hint import HintRegressor, VIDLoss
from .information_flow import InformationFlowLoss, information_flow, match_layers
from .kdcl import KDCLLoss
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
from .mixtures import CollaborativeLoss, GatedEnsembleLoss
from .mutual import DenseMutualLoss, MutualKLLoss
from .okddip import OKDDipLoss
from .relatives import ATLoss, DISTLoss, DKDLoss, FSPLoss, HintLoss

__all__ = [
    "ATLoss",
    "CCKDLoss",
    "CodistillationLoss",
    "CollaborativeLoss",
    "DISTLoss",
    "DKDLoss",
    "DenseMutualLoss",
    "EnsembleGate",
    "FSPLoss",
    "GatedEnsembleLoss",
    "GeneralEnsembleWeights",
    "GradRescale",
    "HintLoss",
    "HintRegressor",
    "IRGLoss",
    "IRGTransformLoss",
    "InformationFlowLoss",
    "KDCLLoss",
    "KDLoss",
    "MutualKLLoss",
    "OKDDipLoss",
    "PKTLoss",
    "PeerAttention",
    "RKDAngleLoss",
    "RKDDistanceLoss",
    "RKDLoss",
    "SPLoss",
    "SoftCrossEntropyLoss",
    "VIDLoss",
    "grad_rescale",
    "information_flow",
    "linear_ensemble_weights",
    "match_layers",
]
