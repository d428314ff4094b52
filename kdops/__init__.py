"""kdops: exact, small and fast knowledge-distillation losses for PyTorch."""

from . import compat, functional, methods, metrics, nn, peers, samplers, schedules
from ._backend import backend
from .functional import *  # noqa: F403
from .functional import __all__ as _functions
from .taps import Tapped, Teacher

__version__ = "0.1.0"
__all__ = [
    "Tapped",
    "Teacher",
    "backend",
    "compat",
    "functional",
    "methods",
    "metrics",
    "nn",
    "peers",
    "samplers",
    "schedules",
    *_functions,
]
