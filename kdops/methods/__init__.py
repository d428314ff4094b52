"""Each method as its paper has it: a module over the outputs of student and teacher."""

from . import online, specialists
from .cckd import CCKD
from .feature_maps import AT, FSP, VID
from .fitnets import FitNets, Hint
from .hinton import HintonKD, Labels
from .irg import IRG
from .logits import DIST, DKD, LogitMatching, StandardizedKD
from .method import Method
from .pkt import HKD, PKT, SP
from .relation import Relation
from .rkd import RKD
from .temperature import temperature_range

__all__ = [
    "AT",
    "CCKD",
    "DIST",
    "DKD",
    "FSP",
    "HKD",
    "IRG",
    "PKT",
    "RKD",
    "SP",
    "VID",
    "FitNets",
    "Hint",
    "HintonKD",
    "Labels",
    "LogitMatching",
    "Method",
    "Relation",
    "StandardizedKD",
    "online",
    "specialists",
    "temperature_range",
]
