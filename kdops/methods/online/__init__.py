"""Methods without a teacher: peers that learn from each other."""

from .codistillation import Codistillation
from .collaborative import Collaborative
from .dcm import DCM
from .dml import DML
from .kdcl import KDCL
from .okddip import OKDDip
from .one import ONE
from .online import Online

__all__ = ["DCM", "DML", "KDCL", "ONE", "Codistillation", "Collaborative", "OKDDip", "Online"]
