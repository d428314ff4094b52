"""kdops: exact, small and fast knowledge-distillation losses for PyTorch."""

from . import compat, functional, nn, schedules
from ._backend import backend
from .functional import *  # noqa: F403
from .functional import __all__ as _functions

__version__ = "0.1.0"
__all__ = ["backend", "compat", "functional", "nn", "schedules", *_functions]
