"""What is timed on a GPU, and what it is meant to reach."""

from dataclasses import dataclass

import torch

from tests import stacked_peers
from tests.cases import BY_NAME

from ..workloads import Goal, Workload
from .floors import LAUNCHES

FLOOR = 1.3


@dataclass(frozen=True)
class GpuGoal(Goal):
    """`limit` counts where work binds, `launches` where they do; `seconds` is a step's most."""

    launches: int | None = None
    seconds: float | None = None


def _workload(name: str, shape: tuple, limit: str | None = None, **more) -> Workload:
    case = BY_NAME[name]
    bounds = {key: more.pop(key) for key in ("peer", "compile", "seconds") if key in more}
    goal = GpuGoal(limit=FLOOR, launches=LAUNCHES[case.kind], **bounds)
    rivals = ("eager", "published", *(["liger"] if name == "kd_loss" else []))
    return Workload(case, shape, goal=goal, limit=limit, rivals=rivals, **more)


def _kd(shape: tuple, dtype: torch.dtype) -> Workload:
    bounds = {"peer": 5, "compile": 1.5} if shape[1] >= 1000 else {}
    tier = "quick" if shape[1] <= 1000 else "default"
    return _workload("kd_loss", shape, dtype=dtype, tier=tier, **bounds)


def _angle(shape: tuple, **more) -> Workload:
    return _workload("rkd_angle_loss", shape, "triples + maps + product", **more)


def _peers(case, shape: tuple, dtype: torch.dtype = torch.float32, tier="default") -> Workload:
    added = 2 * (case.name == "mutual_kl")  # the sum of its losses, and a copy of its gradient
    goal = GpuGoal(limit=FLOOR, launches=LAUNCHES[case.kind] + added)
    return Workload(case, shape, dtype, goal, tier=tier, rivals=("eager",))


ROWS = ((64, 10), (128, 1000), (512, 1000), (256, 32000), (32, 128256))
PAIRS = ((256, 512), (512, 512), (512, 2048), (1024, 512), (4096, 256), (16384, 256))
RELATIONS = ("rkd_distance_loss", "irg_edge_loss", "cckd_loss")
ROW_RELATIONS = {"pkt_loss": "maps + product", "sp_loss": "Gram maps + product"}
ROW_PAIRS = ((256, 512), (1024, 512), (4096, 256))

WORKLOADS = [
    *(_kd(shape, dtype) for dtype in (torch.float32, torch.bfloat16) for shape in ROWS),
    _workload("kd_loss-labels", (32, 128256)),
    _angle((64, 128), tier="quick"),
    _angle((128, 512)),
    _angle((256, 512), peer=100),
    *(_angle(shape) for shape in ((512, 512), (512, 2048), (1024, 512))),
    _angle((4096, 512), seconds=0.2),
    *(
        _workload(name, shape, "maps + product", tier="quick" if shape == PAIRS[0] else "default")
        for name in RELATIONS
        for shape in PAIRS
    ),
    *(
        _workload(name, shape, limit, tier="quick" if shape == ROW_PAIRS[0] else "default")
        for name, limit in ROW_RELATIONS.items()
        for shape in ROW_PAIRS
    ),
    *(_peers(case, (4, 256, 1000), tier="quick") for case in stacked_peers.CASES),
    *(_peers(case, (2, 4096, 32000), torch.bfloat16) for case in stacked_peers.CASES),
]
# Compiled last, while there is time: each takes 5 to 20 seconds.
COMPILED = [
    ("kd_loss", (256, 32000), torch.float32),
    ("kd_loss", (512, 1000), torch.float32),
    ("kd_loss", (32, 128256), torch.bfloat16),
    ("kd_loss", (128, 1000), torch.float32),
    ("rkd_angle_loss", (256, 512), torch.float32),
    ("rkd_distance_loss", (1024, 512), torch.float32),
]


def compiled(workload: Workload) -> bool:
    return (workload.case.name, workload.shape, workload.dtype) in COMPILED
