"""Values and gradients against the float64 oracle, on inputs from ordinary to adversarial.

The oracle computes on the rounded inputs, so the rounding of the inputs is not charged.
"""

import functools

import pytest
import torch

from .cases import BY_NAME, CASES, DTYPES, PARALLEL, generator
from .eager import EAGER
from .metrics import gradient_error, oracle, upstream, value_and_gradient, value_error

TEMPERATURES = (0.5, 4.0, 100.0)
HALF = (torch.bfloat16, torch.float16)


def representable(case, distribution: str, dtype: torch.dtype) -> bool:
    """Whether inputs and results of this size exist in the type."""
    if distribution not in ("tiny", "big"):
        return True
    if dtype == torch.float16 or case.name == "pkt_loss-student_t":  # 1 / (1 + d) has a scale
        return False
    return not (case.name == "pairwise_distance-squared" and distribution == "big")


def batches(case, dtype: torch.dtype):
    """Shapes, each with temperatures or seeds; a half type repeats float32 on fewer."""
    shapes = case.shapes[1::2] if dtype in HALF else case.shapes
    if case.kind == "rows":
        few = {shape: TEMPERATURES if shape[1] < 1e4 else (4.0,) for shape in shapes}
        return [(shape, 0, t) for shape in shapes for t in few[shape]]
    return [(shape, seed, None) for shape in shapes for seed in range(1 if dtype in HALF else 3)]


@functools.cache
def problem(name: str, distribution: str, dtype: torch.dtype, shape, seed, temperature):
    """Inputs and the oracle's answer, shared by both implementations."""
    case = BY_NAME[name]
    student, teacher, kwargs = case.make_inputs(shape, dtype, generator(seed), distribution)
    if temperature is not None:
        kwargs["temperature"] = temperature
    weights = upstream if case.kind == "map" else torch.ones_like
    inputs = (student, teacher, weights)
    return inputs, kwargs, oracle(case, *inputs, **kwargs)


def conditioned(case, shape) -> float:
    """By how much a batch is harder than 48 x 128: distances concentrate as D grows."""
    return max(1.0, shape[1] / 128) ** 0.5 if case.kind == "pairs" else 1.0


def ill_conditioned(case, distribution: str) -> bool:
    """Whether the gradient is lost to the inputs' rounding, or jumps with their last bit."""
    if case.stem in ("cckd_loss", "rbf_correlation", "sp_loss", "pkt_loss"):
        return distribution in PARALLEL and case.options.get("kernel") != "student_t"
    # Of near-duplicate rows two pairs may be the longest, up to 1e-7.
    by_maximum = case.name in ("irg_edge_loss", "pairwise_distance-max")
    return by_maximum and distribution == "near-duplicates 1e-5"


def errors(case, function, distribution: str, dtype: torch.dtype) -> tuple[float, float]:
    """The worst error of the value and of the gradient over the batches."""
    value_worst, gradient_worst = 0.0, 0.0
    for shape, *variant in batches(case, dtype):
        inputs, kwargs, exact = problem(case.name, distribution, dtype, shape, *variant)
        value, gradient = value_and_gradient(function, *inputs, **kwargs)
        absolute = case.tolerance.is_absolute(distribution)
        error = value_error(value, exact[0], absolute, case.tolerance.floor)
        value_worst = max(value_worst, error / conditioned(case, shape))
        if ill_conditioned(case, distribution):
            assert gradient.isfinite().all() or function is not case.function
            continue
        error = gradient_error(gradient, exact[1]) / conditioned(case, shape)
        gradient_worst = max(gradient_worst, error)
    return value_worst, gradient_worst


@functools.cache
def eager_errors(name: str, distribution: str, dtype: torch.dtype) -> tuple[float, float]:
    if name not in EAGER:
        return 0.0, 0.0
    return errors(BY_NAME[name], EAGER[name], distribution, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("case", "distribution"),
    [pytest.param(c, d, id=f"{c.name}-{d}") for c in CASES for d in c.distributions],
)
def test_accuracy(backend, case, distribution, dtype):
    if not representable(case, distribution, dtype):
        pytest.skip(f"{dtype} cannot hold it")
    bounds = case.tolerance.of(dtype, distribution)
    found = errors(case, case.function, distribution, dtype)
    eager = eager_errors(case.name, distribution, dtype)
    for what, error, bound, of_eager in zip(
        ("value", "gradient"), found, bounds, eager, strict=True
    ):
        if backend == "reference":  # torch's own sums, which differ by instruction set
            bound = 16 * max(bound, of_eager)
        elif dtype == torch.float64:  # where eager and the oracle differ so do all
            bound = max(bound, 2 * of_eager)
        elif case.name in EAGER:
            # Not worse than eager; 4, as the largest of a few rounding errors is a random number.
            bound = min(bound, max(4 * of_eager, bound / 4))
        assert error <= bound, f"{what}: {error:.1e} over {bound:.1e}, eager {of_eager:.1e}"
