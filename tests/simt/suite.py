"""Runs the suite's own tests with the emulator in the CUDA kernels' place."""

import re

from . import build

FEW = ("vectors", "one_to_many")  # files that call every kernel
PAIRS = "rkd_distance or irg or cckd"
ROW_MAPS = "pkt or sp_loss"
FEW_BYTES = 6 * 1024  # of shared memory: rows of a few hundred classes go in chunks


def run_suite(mode: str, files, only="emulator", order="random:1", **limits) -> None:
    """pytest on tests/test_<file>.py in a process of the mode, where at least five must pass."""
    chosen = {"KDOPS_TEST_BACKENDS": "emulator", "SIMT_ORDER": order}
    chosen |= {f"SIMT_{limit}".upper(): str(number) for limit, number in limits.items()}
    options = ["-x", "-p", "no:cacheprovider", "-k", only]
    paths = [f"tests/test_{name}.py" for name in files]
    done = build.python(mode, "-m", "pytest", *options, *paths, **chosen)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 5
