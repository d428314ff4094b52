"""The suite's own tests on the CUDA kernels under sanitizers: few, ten times slower."""

import pytest

from . import build
from .suite import FEW, FEW_BYTES, PAIRS, run_suite

pytestmark = [
    pytest.mark.skipif(build.missing() is not None, reason=str(build.missing())),
    pytest.mark.parametrize("mode", ["address", "thread"]),
]


def few(mode):
    """ThreadSanitizer is the slowest, and lists of students run the same kernels again."""
    return FEW if mode == "address" else FEW[:1]


def test_values(mode):
    run_suite(mode, few(mode))


def test_layouts(mode):
    if mode == "thread":
        pytest.skip("where a row lies changes no barrier")
    run_suite(mode, ["views"], "emulator and misaligned and float32")


def test_rows_in_chunks(mode):
    only = "emulator and (weights or reductions or no_class)"
    run_suite(mode, ["logits_edges"], only, "reverse", shared_limit=FEW_BYTES)


def test_normalised_rows(mode):
    only = "duplicate or many_rows" if mode == "address" else "duplicate"
    run_suite(mode, ["row_relations"], f"emulator and ({only})", "random:3")


def test_streamed_maps(mode):
    run_suite(mode, few(mode), f"emulator and ({PAIRS})", "reverse", map_bytes=0)
