"""The suite's own tests on the CUDA kernels under sanitizers: few, ten times slower."""

import pytest

from . import build
from .suite import FEW_BYTES, PAIRS, run_suite

pytestmark = [
    pytest.mark.skipif(build.missing() is not None, reason=str(build.missing())),
    pytest.mark.parametrize("mode", ["address", "thread"]),
]


BATCHES = ["views"], "emulator and misaligned and float32"  # one of each kernel


def test_values(mode):
    run_suite(mode, *BATCHES)


def test_lists_of_students(mode):
    if mode == "thread":
        pytest.skip("the same barriers again, and ThreadSanitizer is the slowest")
    run_suite(mode, ["one_to_many"], "emulator and not other_types")


def test_rows_in_chunks(mode):
    only = "emulator and (weights or reductions or no_class)"
    run_suite(mode, ["logits_edges"], only, "reverse", shared_limit=FEW_BYTES)


def test_normalised_rows(mode):
    only = "duplicate or many_rows" if mode == "address" else "duplicate"
    run_suite(mode, ["row_relations"], f"emulator and ({only})", "random:3")


def test_streamed_maps(mode):
    files, only = BATCHES
    run_suite(mode, files, f"{only} and ({PAIRS})", "reverse", map_bytes=0)
