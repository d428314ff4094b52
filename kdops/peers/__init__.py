"""Several nets, or several branches of one, that are trained together."""

from .branching import Branched, branch
from .group import Ensemble, Group, NetGroup
from .segments import segments
from .tree import HeadTree

__all__ = ["Branched", "Ensemble", "Group", "HeadTree", "NetGroup", "branch", "segments"]
