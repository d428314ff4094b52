"""Hinton's specialists: classes that a generalist confuses, nets for them, one answer of all."""

from .clusters import class_clusters
from .covariance import PredictionCovariance
from .dustbin import dustbin_bias
from .ensemble import Specialists
from .head import reduced_logits, reduced_targets, specialist_labels, specialist_of
from .inference import active_specialists, combination_objective, combine_specialists
from .processes import train_in_processes

__all__ = [
    "PredictionCovariance",
    "Specialists",
    "active_specialists",
    "class_clusters",
    "combination_objective",
    "combine_specialists",
    "dustbin_bias",
    "reduced_logits",
    "reduced_targets",
    "specialist_labels",
    "specialist_of",
    "train_in_processes",
]
