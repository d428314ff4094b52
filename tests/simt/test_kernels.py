"""The suite's own tests on the CUDA kernels, run by the emulator.

Values, gradients, views, awkward inputs and upstream gradients, as for the CPU's kernels.
"""

import pytest

from . import build
from .suite import FEW, FEW_BYTES, PAIRS, ROW_MAPS, run_suite

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

FILES = ("vectors", "logits_edges", "feature_edges", "upstream", "one_to_many", "views")


@pytest.mark.parametrize("order", ["forward", "reverse", "random:2"])
def test_plain(order):
    run_suite("plain", FILES if order == "forward" else FEW, order=order)


def test_accuracy():
    """On the ordinary distribution in every type, and on those that ask most of a formula."""
    hard = "near or opposite or wrong or scale"
    run_suite("plain", ["accuracy"], f"emulator and (randn or (float32 and ({hard})))")


def test_rows_in_chunks():
    only = "emulator and (kd_loss or cross)"
    run_suite("plain", ["sizes"], only, "random:3", shared_limit=FEW_BYTES)


def test_normalised_rows():
    run_suite("plain", ["row_relations"], order="random:3")
    run_suite("plain", ["sizes"], f"emulator and ({ROW_MAPS})", "reverse")


def test_streamed_maps():
    files = ("vectors", "feature_edges", "sizes", "upstream", "one_to_many")
    run_suite("plain", files, f"emulator and ({PAIRS})", "random:4", map_bytes=0)
