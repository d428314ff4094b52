"""One table of what is tested and timed: functions, their inputs, their tolerances.

A case's inputs are `case.make_inputs(shape, dtype, generator, distribution)`, which gives
(student, teacher, kwargs) for `case.function(student, teacher, **kwargs)` and the same call of
`case.reference`. A map has no teacher: its `teacher` is None, see `call`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

import kdops
from kdops import reference

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def _randn(shape, generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _correlated(shape, generator) -> tuple[Tensor, Tensor]:
    """A teacher, and a student correlated with it by 0.7."""
    teacher = _randn(shape, generator)
    return 0.7 * teacher + 0.51**0.5 * _randn(shape, generator), teacher


def _near_duplicates(spread: float):
    """Every odd row is the row before it, moved by `spread`."""

    def make(shape, generator):
        pair = _correlated(shape, generator)
        for x in pair:
            odd = x[1::2]
            odd.copy_(x[0::2][: len(odd)] + spread * _randn(odd.shape, generator))
        return pair

    return make


def _column_range(shape, generator):
    scale = torch.logspace(-4, 4, shape[-1], dtype=torch.float64)
    return tuple(x * scale for x in _correlated(shape, generator))


def _row_scale(shape, generator):
    scale = torch.logspace(-3, 3, shape[0], dtype=torch.float64)[:, None]
    return tuple(x * scale for x in _correlated(shape, generator))


def _mapped(change: Callable):
    return lambda shape, generator: tuple(map(change, _correlated(shape, generator)))


def _near_teacher(spread: float):
    def make(shape, generator):
        teacher = 2 * _randn(shape, generator)
        return teacher + spread * _randn(shape, generator), teacher

    return make


def _opposite_offsets(shape, generator):
    student, teacher = _correlated(shape, generator)
    return student + 1e3, teacher - 1e3


def _peaky(shift: int):
    """One logit 40 above the others; the student's in the teacher's column, or `shift` beside."""

    def make(shape, generator):
        student, teacher = _correlated(shape, generator)
        rows = torch.arange(shape[0])
        teacher[rows, rows % shape[-1]] = 40
        student[rows, (rows + shift) % shape[-1]] = 40
        return student, teacher

    return make


FEATURES = {
    "randn": _correlated,
    "relu": _mapped(torch.relu),
    "offset 1e2": _mapped(lambda x: x + 1e2),
    "offset 1e3": _mapped(lambda x: x + 1e3),
    "offset 1e4": _mapped(lambda x: x + 1e4),
    "near-duplicates 1e-3": _near_duplicates(1e-3),
    "near-duplicates 1e-5": _near_duplicates(1e-5),
    "column range": _column_range,
    "row scale": _row_scale,
    "tiny": _mapped(lambda x: x * 1e-15),
    "big": _mapped(lambda x: x * 1e18),
}
LOGITS = {
    "randn": _mapped(lambda x: 2 * x),
    "relu": _mapped(torch.relu),
    "near teacher 1e-2": _near_teacher(1e-2),
    "near teacher 1e-4": _near_teacher(1e-4),
    "near teacher 1e-6": _near_teacher(1e-6),
    "offset 1e3": _mapped(lambda x: x + 1e3),
    "opposite offsets": _opposite_offsets,
    "peaky right": _peaky(0),
    "peaky wrong": _peaky(1),
    "range 1e3": _mapped(lambda x: 1e3 * x),
}
WELL_CONDITIONED = ("randn", "relu")
# Rows nearly parallel or of nearly one direction: the gradient of a correlation cancels there.
PARALLEL = tuple(name for name in FEATURES if name[:4] in ("offs", "near", "colu"))
DOUBLE = 2.0**-24  # float64's unit over float32's, and 32 for the oracle's own rounding


@dataclass(frozen=True)
class Tolerance:
    """Bounds of the error of the value, and of the gradient normwise, in float32 accumulation.

    About four times the best measured error of float32 formulas with blocked sums; the second pair
    is for the distributions outside WELL_CONDITIONED. A half type has the same, as its inputs are
    exact and the inside is float32, plus one unit in the last place of the gradient it rounds to.
    """

    value: float
    gradient: float
    hard_value: float
    hard_gradient: float
    # Whether the value's error is absolute: cosines cross zero, correlations of near-parallel rows
    # differ by less than they round.
    absolute: bool = False
    hard_absolute: bool = False
    # Smaller values are compared with this one: probabilities below float32's normal numbers carry
    # no relative precision, and log_softmax, so the oracle of a cross-entropy, rounds at 1.
    floor: float = 1e-30
    # In float64 outside WELL_CONDITIONED, where the formula in use cancels more than the oracle's.
    hard_double: float = 0.0

    def of(self, dtype: torch.dtype, distribution: str) -> tuple[float, float]:
        hard = distribution not in WELL_CONDITIONED
        bound = (self.hard_value, self.hard_gradient) if hard else (self.value, self.gradient)
        if dtype != torch.float64:
            return bound
        return tuple(max(x * DOUBLE, self.hard_double * hard) for x in bound)

    def is_absolute(self, distribution: str) -> bool:
        return self.absolute or (self.hard_absolute and distribution not in WELL_CONDITIONED)


@dataclass(frozen=True)
class Case:
    name: str
    function: Callable
    reference: Callable
    kind: str  # "rows", "pairs" or "map"
    tolerance: Tolerance
    options: dict = field(default_factory=dict)
    labels: bool = False
    shapes: tuple = ()

    @property
    def stem(self) -> str:
        """The public function's name, as in its error messages."""
        return self.function.__name__

    @property
    def distributions(self) -> dict:
        return LOGITS if self.kind == "rows" else FEATURES

    def make_inputs(self, shape, dtype, generator, distribution="randn"):
        """(student, teacher, kwargs); labels ignore every seventh row."""
        student, teacher = self.distributions[distribution](shape, generator)
        options = dict(self.options)
        if self.labels:
            target = torch.randint(shape[-1], shape[:-1], generator=generator)
            target.view(-1)[6::7] = -100
            options["target"] = target
        if self.kind == "map":
            return student.to(dtype), None, options
        return student.to(dtype), teacher.to(dtype), options


def call(function: Callable, student, teacher, **kwargs) -> Tensor:
    """function(student, teacher, **kwargs), without the teacher for a map."""
    return function(student, **kwargs) if teacher is None else function(student, teacher, **kwargs)


# Rows: shorter than a vector, odd, a power of two, longer than a block, a vocabulary.
ROWS = ((5, 2), (33, 7), (33, 10), (128, 64), (33, 100), (7, 513), (8, 1000), (2, 50257))
# Pairs: few rows, odd sizes round a tile, feature rows longer than a block.
PAIRS = ((9, 7), (33, 10), (48, 128), (65, 33), (33, 513))

_KL = Tolerance(5e-6, 5e-6, 1e-5, 5e-5)
_SOFT_CE = Tolerance(1e-6, 5e-6, 2e-6, 5e-5, floor=1e-12)
_HARD_CE = Tolerance(5e-7, 5e-7, 1e-6, 1e-6, floor=1e-12)
_DISTANCE = Tolerance(1e-6, 2e-6, 1e-5, 2e-5)
_EDGE = Tolerance(2e-6, 2e-5, 1e-5, 2e-5)  # one pair, the largest, carries the sum of all terms
# An angle is taken from three squared distances: of near pairs they cancel.
_ANGLE = Tolerance(5e-7, 1e-6, 1e-6, 1e-6, hard_double=1e-9)
_COSINE = Tolerance(1e-6, 2e-6, 1e-6, 2e-6, absolute=True, hard_double=1e-9)
_CONGRUENCE = Tolerance(5e-7, 5e-6, 2.4e-7, 5e-6, hard_absolute=True)
# Rows that are nearly opposite have probabilities near 0, of few digits.
_CONDITIONAL = Tolerance(5e-6, 1e-5, 4e-4, 2e-5, hard_absolute=True)
_STUDENT_T = Tolerance(5e-6, 1e-5, 1e-5, 2e-5)
_SIMILARITY = Tolerance(1e-6, 5e-6, 1e-6, 1e-5, hard_absolute=True)
_CORRELATION = Tolerance(5e-7, 5e-6, 5e-7, 5e-6, absolute=True)


def _case(stem, kind, tolerance, variant="", labels=False, **options) -> Case:
    name = f"{stem}-{variant}" if variant else stem
    shapes = ROWS if kind == "rows" else PAIRS
    function, oracle = getattr(kdops, stem), getattr(reference, stem)
    return Case(name, function, oracle, kind, tolerance, options, labels, shapes)


LOSSES = [
    _case("kd_loss", "rows", _KL),
    _case("kd_loss", "rows", _KL, "labels", labels=True, ce_weight=0.1, kd_weight=0.9),
    _case("kd_loss", "rows", _HARD_CE, "hard", labels=True, ce_weight=1.0, kd_weight=0.0),
    _case("soft_cross_entropy", "rows", _SOFT_CE, temperature=4.0),
    _case("rkd_distance_loss", "pairs", _DISTANCE),
    _case("rkd_angle_loss", "pairs", _ANGLE),
    _case("irg_edge_loss", "pairs", _EDGE),
    _case("cckd_loss", "pairs", _CONGRUENCE),
    _case("cckd_loss", "pairs", _CONGRUENCE, "exact", order=None),
    _case("cckd_loss", "pairs", _CONGRUENCE, "order3", order=3, gamma=1.0),
    _case("cckd_loss", "pairs", _CONGRUENCE, "bilinear", kernel="bilinear"),
    _case("pkt_loss", "pairs", _CONDITIONAL),
    _case("pkt_loss", "pairs", _CONDITIONAL, "jeffreys", divergence="jeffreys", include_self=False),
    _case("pkt_loss", "pairs", _STUDENT_T, "student_t", kernel="student_t"),
    _case("sp_loss", "pairs", _SIMILARITY),
]
MAPS = [
    _case("pairwise_distance", "map", _DISTANCE),
    _case("pairwise_distance", "map", _DISTANCE, "squared", squared=True),
    _case("pairwise_distance", "map", _DISTANCE, "mean", normalize="mean"),
    _case("pairwise_distance", "map", _DISTANCE, "max", squared=True, normalize="max"),
    _case("triplet_angle", "map", _COSINE),
    _case("rbf_correlation", "map", _CORRELATION),
    _case("rbf_correlation", "map", _CORRELATION, "exact", order=None),
]
CASES = LOSSES + MAPS
BY_NAME = {case.name: case for case in CASES}
ROW_LOSSES = [case for case in LOSSES if case.kind == "rows"]
PAIR_LOSSES = [case for case in LOSSES if case.kind == "pairs"]
# One loss a function, and those of them that take a list of students.
PLAIN = [case for case in LOSSES if case.name == case.stem]
ONE_TO_MANY = [BY_NAME[name] for name in ("rkd_distance_loss", "rkd_angle_loss", "irg_edge_loss")]

# The same as plain tuples: name, function, reference, make_inputs(shape, dtype, generator).
TABLE = [(case.name, case.function, case.reference, case.make_inputs) for case in CASES]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_inputs(case: Case, dtype=torch.float32, seed: int = 0, shape=None):
    """A small ordinary batch: 8 rows of 10 logits, 6 rows of 5 features."""
    return case.make_inputs(
        shape or ((8, 10) if case.kind == "rows" else (6, 5)), dtype, generator(seed)
    )
