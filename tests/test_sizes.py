"""Sizes at the ends of loops: what reads or writes past an array is seen by `make sanitize`."""

import pytest
import torch

from .cases import CASES, DTYPES, generator
from .metrics import oracle, upstream, value_and_gradient

# Before, at and after the end of a vector, of a short row, of a chunk and of a block.
ENDS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33)
SIZES = {
    "rows": [(3, n) for n in (*ENDS, 47, 48, 49, 2047, 2048, 2049, 2063)] + [(n, 5) for n in ENDS],
    "pairs": [(n, 5) for n in (*ENDS, 63, 64, 65)] + [(5, n) for n in ENDS],
}
SIZES["map"] = SIZES["pairs"]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sizes(backend, case, dtype):
    weights = upstream if case.kind == "map" else torch.ones_like
    for shape in SIZES[case.kind]:
        student, teacher, kwargs = case.make_inputs(shape, dtype, generator())
        value, gradient = value_and_gradient(case.function, student, teacher, weights, **kwargs)
        exact, _ = oracle(case, student, teacher, weights, **kwargs)
        torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-5)
        assert gradient.isfinite().all()
