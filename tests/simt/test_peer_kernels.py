"""The suite's own tests of the losses of K peers on their CUDA kernels, in every build."""

import pytest

from . import build
from .suite import FEW_BYTES, run_suite

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

SANITIZED = pytest.mark.parametrize("mode", ["address", "thread"])
FILES = ("peer_losses",)
SOME = "emulator and (learns or (flows and 0.6-all) or (lacking and classes) or no_class)"


@pytest.mark.parametrize("order", ["forward", "random:2"])
def test_plain(order):
    files = ("peer_losses", "peer_edges") if order == "forward" else FILES
    run_suite("plain", files, order=order)


def test_rows_in_chunks():
    run_suite("plain", FILES, order="random:3", shared_limit=FEW_BYTES)


@SANITIZED
def test_sanitized(mode):
    run_suite(mode, FILES, SOME)


@SANITIZED
def test_sanitized_rows_in_chunks(mode):
    only = "emulator and ((sizes and (3-64 or 2-513)) or (flows and 0.0-all) or equal_peers)"
    run_suite(mode, FILES, only, "reverse", shared_limit=FEW_BYTES)
