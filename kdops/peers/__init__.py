"""Several nets, or several branches of one, that are trained together."""

from . import exchange
from .codistilled import CodistilledGroup
from .group import Ensemble, Group, NetGroup

__all__ = ["CodistilledGroup", "Ensemble", "Group", "NetGroup", "exchange"]
