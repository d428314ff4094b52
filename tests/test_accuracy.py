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
    if dtype == torch.float16 and distribution in ("tiny", "big"):
        return False
    return not (case.name == "pairwise_distance-squared" and distribution == "big")


def batches(case, dtype: torch.dtype):
    """Shapes, with the temperatures of the losses that have one; a half type repeats float32."""
    shapes = case.shapes[1::2] if dtype in HALF else case.shapes
    if case.kind != "rows":
        return [(shape, None) for shape in shapes]
    return [(shape, t) for shape in shapes for t in (TEMPERATURES if shape[1] < 1e4 else (4.0,))]


@functools.cache
def problem(name: str, distribution: str, dtype: torch.dtype, shape, temperature):
    """Inputs and the oracle's answer, shared by both implementations."""
    case = BY_NAME[name]
    student, teacher, kwargs = case.make_inputs(shape, dtype, generator(len(name)), distribution)
    if temperature is not None:
        kwargs["temperature"] = temperature
    weights = upstream if case.kind == "map" else torch.ones_like
    inputs = (student, teacher, weights)
    return inputs, kwargs, oracle(case, *inputs, **kwargs)


def errors(case, function, distribution: str, dtype: torch.dtype) -> tuple[float, float]:
    """The worst error of the value and of the gradient over the batches."""
    value_worst, gradient_worst = 0.0, 0.0
    for shape, temperature in batches(case, dtype):
        inputs, kwargs, exact = problem(case.name, distribution, dtype, shape, temperature)
        value, gradient = value_and_gradient(function, *inputs, **kwargs)
        absolute = case.tolerance.is_absolute(distribution)
        # Probabilities below float32's normal numbers carry no relative precision; and of a peaky
        # teacher nothing is left in float32 but the rounding of 1.
        value_worst = max(value_worst, value_error(value, exact[0], absolute, floor=1e-30))
        if case.stem in ("cckd_loss", "rbf_correlation") and distribution in PARALLEL:
            assert gradient.isfinite().all()
            continue
        gradient_worst = max(gradient_worst, gradient_error(gradient, exact[1]))
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
        if backend == "reference":  # a plain formula: about as good as today's where that is worse
            bound = 2 * max(bound, of_eager)
        elif case.name in EAGER and dtype != torch.float64:
            bound = min(bound, max(of_eager, bound / 4))  # never worse than eager
        assert error <= bound, f"{what}: {error:.1e} over {bound:.1e}, eager {of_eager:.1e}"
