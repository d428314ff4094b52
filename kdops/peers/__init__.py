"""Several nets, or several branches of one, that are trained together."""

from . import exchange
from .group import Ensemble, Group, NetGroup

__all__ = ["Ensemble", "Group", "NetGroup", "exchange"]
