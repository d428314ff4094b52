"""Several nets, or several branches of one, that are trained together."""

from .group import Ensemble, Group, NetGroup

__all__ = ["Ensemble", "Group", "NetGroup"]
