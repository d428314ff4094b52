"""Several nets, or several branches of one, that are trained together."""

from . import exchange
from .branching import Branched, branch
from .codistilled import CodistilledGroup
from .group import Ensemble, Group, NetGroup
from .heads import MultiHeadGroup, MultiHeadNet, attach_aux_heads
from .segments import segments
from .tree import HeadTree

__all__ = [
    "Branched",
    "CodistilledGroup",
    "Ensemble",
    "Group",
    "HeadTree",
    "MultiHeadGroup",
    "MultiHeadNet",
    "NetGroup",
    "attach_aux_heads",
    "branch",
    "exchange",
    "segments",
]
