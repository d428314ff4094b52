"""What is timed, at which sizes, and what it is meant to reach."""

import math
from dataclasses import dataclass, field

import torch

from kdops.bench.rivals import NAMES
from tests.cases import BY_NAME, LOSSES, Case, generator

from .peers import MIXTURE, MUTUAL, PeerCase

MIB = 2.0**20
SEED = 0


@dataclass(frozen=True)
class Goal:
    """Each a bound, None where there is none: `peer` times as fast as the fastest of eager, the
    published formula and torchdistill, `compile` times as fast as torch.compile, at most `limit`
    times the limit, at most `memory` bytes; a gradient at least as exact as eager's."""

    peer: float | None = None
    compile: float | None = None
    limit: float | None = None
    memory: float | None = None
    accurate: bool = False


@dataclass(frozen=True)
class Workload:
    case: Case | PeerCase
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    goal: Goal = field(default_factory=Goal)
    limit: str | None = None
    distribution: str = "randn"
    rivals: tuple[str, ...] = NAMES
    tier: str = "default"  # "quick" is in every run, "full" in --full alone
    group: str = "losses"

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        dtype = "" if self.dtype == torch.float32 else f" {str(self.dtype)[6:]}"
        kind = "" if self.distribution == "randn" else f" {self.distribution}"
        return f"{self.case.name} {size}{dtype}{kind}"

    def inputs(self):
        """Student with gradient, teacher, options; every label counts, as peers cannot skip one."""
        student, teacher, options = self.case.make_inputs(
            self.shape, self.dtype, generator(SEED), self.distribution
        )
        if "target" in options:
            options["target"] = options["target"].clamp(min=0)
        return student.requires_grad_(), teacher, options


def gradient(shape: tuple[int, ...], size: int = 4) -> float:
    """The gradient itself and no more; the loss and the upstream gradient are 64 bytes each."""
    return 1.05 * math.prod(shape) * size + 1024


def maps(rows: int, count: int) -> float:
    return count * rows * rows * 4


def _kd(shape, peer, compiled, limit, bound, tier="default", **more) -> Workload:
    size = more.get("dtype", torch.float32).itemsize
    goal = Goal(peer, compiled, limit, gradient(shape, size))
    return Workload(BY_NAME["kd_loss"], shape, goal=goal, limit=bound, tier=tier, **more)


def _kd_without_goal(name, shape, bound, **more) -> Workload:
    return Workload(BY_NAME[name], shape, limit=bound, **more)


KD = [
    _kd((64, 10), 2.2, 3, 1.7, "empty function", "quick"),
    _kd((128, 1000), 8, 5, 2, "exp + x + y", "quick"),
    _kd((512, 1000), 8, 4, 2, "exp + x + y"),
    _kd((256, 32000), 9, 4, 1.6, "x + y", "quick"),
    _kd((32, 128256), 9, 4, 1.6, "x + y"),
    _kd((128, 1000), 10, 5, 2, "exp + x + y", dtype=torch.bfloat16),
    _kd((256, 32000), 10, 5, 1.6, "x + y", dtype=torch.bfloat16),
    _kd_without_goal("kd_loss", (128, 1000), "exp + x + y", dtype=torch.float64),
    _kd_without_goal("kd_loss-labels", (128, 1000), "exp + x + y"),
    _kd_without_goal("kd_loss-labels", (32, 128256), "x + y"),
]


def _angle(shape, goal, **more) -> Workload:
    return Workload(
        BY_NAME["rkd_angle_loss"], shape, goal=goal, limit="triples + maps + product", **more
    )


ANGLE = [
    _angle((64, 128), Goal(60, 30, None, maps(64, 32)), tier="quick"),
    _angle((128, 512), Goal(250, 100, 1.3, maps(128, 32), True)),
    _angle((256, 512), Goal(400, 100, 1.3, 8 * MIB, True)),
    _angle(
        (256, 512),
        Goal(memory=8 * MIB, accurate=True),
        distribution="near-duplicates 1e-3",
        rivals=("eager",),
    ),
    _angle((1024, 1024), Goal(memory=64 * MIB), rivals=(), tier="full"),
]

# stem: the limit, peer's goals at N = 256 and 512, at N = 4096, at N = 16384
RELATIONS = {
    "rkd_distance_loss": ("maps + product", 3, None, None),
    "irg_edge_loss": ("maps + product", 2.2, 4.5, 6),
    "cckd_loss": ("Gram maps + product", 2.2, 5, 6),
}


def _relation(stem: str) -> list[Workload]:
    limit, large, streamed, huge = RELATIONS[stem]

    def workload(shape, goal, rivals=NAMES, tier="default"):
        return Workload(BY_NAME[stem], shape, goal=goal, limit=limit, rivals=rivals, tier=tier)

    return [
        workload((64, 128), Goal(4, 4), tier="quick"),
        workload((128, 128), Goal(4, 4)),
        workload((256, 512), Goal(large, 2, 1.3, maps(256, 5)), tier="quick"),
        workload((512, 512), Goal(large, 2, 1.3, maps(512, 5))),
        workload((4096, 256), Goal(streamed, memory=32 * MIB), ("eager", "published", "compile")),
        workload((16384, 256), Goal(huge, memory=80 * MIB), ("eager",), "full"),
    ]


# Maps whose rows have normalisers of their own.
ROW_RELATIONS = {
    "pkt_loss": "Gram maps + product",
    "pkt_loss-student_t": "maps + product",
    "sp_loss": "Gram maps + product",
}


def _row_relation(name: str) -> list[Workload]:
    def workload(shape, peer, tier="default"):
        goal = Goal(peer, accurate=True)
        return Workload(BY_NAME[name], shape, goal=goal, limit=ROW_RELATIONS[name], tier=tier)

    return [
        workload((64, 128), 3, "quick"),
        workload((128, 128), 3),
        workload((128, 512), 3),
        workload((256, 512), 1.6, "quick"),
        workload((512, 512), 1.6),
    ]


def _peers(shape, peer, tier="default") -> list[Workload]:
    goal = Goal(peer, memory=gradient(shape))
    return [
        Workload(case, shape, goal=goal, rivals=("eager",), tier=tier) for case in (MUTUAL, MIXTURE)
    ]


# K x B x C: all pairs, and every peer against the mean of the others.
PEERS = [
    *_peers((2, 64, 10), 1, "quick"),
    *_peers((4, 128, 1000), 8, "quick"),
    *_peers((4, 256, 32000), 8),
]

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SMALL_SHAPES = {"rows": ((1, 2), (8, 100), (64, 10)), "pairs": ((1, 2), (8, 100), (64, 128))}


def _small(case: Case) -> list[Workload]:
    return [
        Workload(
            case,
            shape,
            dtype,
            Goal(peer=1),
            rivals=("eager",),
            tier="quick" if dtype == torch.float32 else "default",
            group="small batches",
        )
        for dtype in DTYPES
        for shape in SMALL_SHAPES[case.kind]
    ]


WORKLOADS = [
    *KD,
    *ANGLE,
    *(workload for stem in RELATIONS for workload in _relation(stem)),
    *(workload for name in ROW_RELATIONS for workload in _row_relation(name)),
    *PEERS,
    *(workload for case in LOSSES for workload in _small(case)),
]
