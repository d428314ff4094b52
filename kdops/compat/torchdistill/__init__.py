"""torchdistill's losses under its names, on kdops's kernels where there are any.

    dependencies: [{name: kdops.compat.torchdistill}]

in a YAML file of torchdistill puts them in the place of its own: same keys, same arguments. Without
torchdistill the classes work and nothing is registered. Half types are computed in float32, and
the value is float32. What differs otherwise, and the clean calls: docs/migrate/torchdistill.md.

Source: torchdistill 1.1.5, torchdistill/losses/mid_level.py.
"""

from .contrast import CRDLoss
from .correlations import DISTLoss, DISTPlusLoss
from .directions import AffinityLoss, FTLoss, KTALoss
from .feature_maps import (
    AltActTransferLoss,
    ATLoss,
    ChSimLoss,
    FSPLoss,
    HierarchicalContextLoss,
    PADL2Loss,
    RegularizationLoss,
    VIDLoss,
)
from .logits import KDLoss, LogitStdKDLoss, SKDDirectionLoss, SKDInstanceLoss, SRDLoss
from .registry import register
from .relations import CCKDLoss, PKTLoss, RKDLoss, SPKDLoss
from .self_supervision import AuxSSKDLoss, SSKDLoss

__all__ = [
    "ATLoss",
    "AffinityLoss",
    "AltActTransferLoss",
    "AuxSSKDLoss",
    "CCKDLoss",
    "CRDLoss",
    "ChSimLoss",
    "DISTLoss",
    "DISTPlusLoss",
    "FSPLoss",
    "FTLoss",
    "HierarchicalContextLoss",
    "KDLoss",
    "KTALoss",
    "LogitStdKDLoss",
    "PADL2Loss",
    "PKTLoss",
    "RKDLoss",
    "RegularizationLoss",
    "SKDDirectionLoss",
    "SKDInstanceLoss",
    "SPKDLoss",
    "SRDLoss",
    "SSKDLoss",
    "VIDLoss",
]

register(globals()[name] for name in __all__)
