"""The suite's own tests on the CUDA kernels, run by the emulator in all three builds.

Values, gradients, views, awkward inputs and upstream gradients, as for the CPU's kernels. The
sanitizers see fewer of them: they are ten times slower.
"""

import re

import pytest

from . import build

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

FILES = ("vectors", "logits_edges", "feature_edges", "upstream", "one_to_many", "views")
FEW = ("vectors", "one_to_many")
PAIRS = "rkd_distance or irg or cckd"
FEW_BYTES = 6 * 1024  # of shared memory: rows of a few hundred classes go in chunks


@pytest.fixture
def run(monkeypatch):
    """run(mode, files): pytest on them with the emulator as backend, in a process of the mode."""

    def call(mode: str, files, only="emulator", order="random:1", **limits):
        monkeypatch.setenv("KDOPS_TEST_BACKENDS", "emulator")
        monkeypatch.setenv("SIMT_ORDER", order)
        for limit, number in limits.items():
            monkeypatch.setenv(f"SIMT_{limit}".upper(), str(number))
        paths = [f"tests/test_{name}.py" for name in files]
        options = ["-x", "-p", "no:cacheprovider", "-k", only]
        done = build.python(mode, "-m", "pytest", *options, *paths)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 5

    return call


@pytest.mark.parametrize("order", ["forward", "reverse", "random:2"])
def test_plain(run, order):
    run("plain", FILES if order == "forward" else FEW, order=order)


def test_accuracy(run):
    run("plain", ["accuracy"], "emulator and float32 and (randn or near-duplicates)")


def test_rows_in_chunks(run):
    run("plain", ["sizes"], "emulator and (kd_loss or cross)", "random:3", shared_limit=FEW_BYTES)


@pytest.mark.parametrize("mode", ["address", "thread"])
def test_sanitized(run, mode):
    run(mode, FEW)


@pytest.mark.parametrize("mode", ["address", "thread"])
def test_sanitized_layouts(run, mode):
    run(mode, ["views"], "emulator and misaligned and float32")


@pytest.mark.parametrize("mode", ["address", "thread"])
def test_sanitized_rows_in_chunks(run, mode):
    only = "emulator and (weights or reductions or no_class)"
    run(mode, ["logits_edges"], only, "reverse", shared_limit=FEW_BYTES)


def test_streamed_maps(run):
    files = ("vectors", "feature_edges", "sizes", "upstream", "one_to_many")
    run("plain", files, f"emulator and ({PAIRS})", "random:4", map_bytes=0)


@pytest.mark.parametrize("mode", ["address", "thread"])
def test_sanitized_streamed_maps(run, mode):
    run(mode, FEW, f"emulator and ({PAIRS})", "reverse", map_bytes=0)
