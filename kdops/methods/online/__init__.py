"""Methods without a teacher: peers that learn from each other."""

from .codistillation import Codistillation
from .dml import DML
from .kdcl import KDCL
from .online import Online

__all__ = ["DML", "KDCL", "Codistillation", "Online"]
