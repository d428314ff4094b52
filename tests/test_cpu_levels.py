"""Every instruction set of the CPU kernels: the accuracy of each, and its vector instructions."""

import collections
import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import kdops
from kdops import _native

from .cases import CASES, generator
from .metrics import upstream, value_and_gradient
from .test_accuracy import errors, representable

pytestmark = pytest.mark.usefixtures("native")
LEVELS = ("base", "v3", "v4")


@pytest.fixture(params=range(len(LEVELS)), ids=LEVELS)
def level(request):
    library = _native._handles["cpu"]
    best = _native.level("cpu")
    library.kdops_set_cpu_level(ctypes.c_int(request.param))
    try:
        if _native.level("cpu") != LEVELS[request.param]:
            pytest.skip(f"the processor has {best} only")
        with kdops.backend("native"):
            yield LEVELS[request.param]
    finally:
        library.kdops_set_cpu_level(ctypes.c_int(LEVELS.index(best)))


# What differs between levels is the order of sums, fused products, and the exponential.
DISTRIBUTIONS = {
    "rows": ("randn", "near teacher 1e-4", "peaky wrong", "range 1e3"),
    "pairs": ("randn", "offset 1e3", "near-duplicates 1e-3", "tiny"),
}
DISTRIBUTIONS["map"] = DISTRIBUTIONS["pairs"]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_accuracy_of_a_level(level, case, dtype):
    for distribution in DISTRIBUTIONS[case.kind]:
        if not representable(case, distribution, dtype):
            continue
        bounds = case.tolerance.of(dtype, distribution)
        found = errors(case, case.function, distribution, dtype)
        for what, error, bound in zip(("value", "gradient"), found, bounds, strict=True):
            # The oracle's own error for near rows in float64.
            bound = max(bound, 1e-7) if dtype == torch.float64 and "near" in distribution else bound
            assert error <= bound, f"{distribution}: {what} {error:.1e} over {bound:.1e}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_level_is_deterministic(level, case):
    student, teacher, kwargs = case.make_inputs((65, 33), torch.float32, generator())
    weights = upstream if case.kind == "map" else torch.ones_like
    first, second = (
        value_and_gradient(case.function, student, teacher, weights, **kwargs) for _ in "12"
    )
    assert all(map(torch.equal, first, second))


@pytest.fixture(scope="module")
def instructions():
    """Of each function its vector registers: {level: {function: Counter of xmm, ymm, zmm}}."""
    if "cpu" not in _native.loaded:
        pytest.skip("no native CPU library")
    if shutil.which("objdump") is None:
        pytest.skip("objdump is missing")
    library = next(Path(kdops.__file__).parent.glob("_cpu.*so"))
    command = ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", str(library)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "x86-64" not in text[:400]:
        pytest.skip("not an x86-64 library")
    found = collections.defaultdict(collections.Counter)
    name = ""
    for line in text.splitlines():
        if line.endswith(">:"):
            name = line.partition("<")[2][:-2]
        else:
            found[name].update(re.findall(r"%([xyz]mm)\d", line))
    return {
        wanted: {
            n: c
            for n, c in found.items()
            if re.search(rf"\w_{wanted}\(", n) and "[clone .cold" not in n
        }
        for wanted in LEVELS
    }


@pytest.mark.parametrize(("level_name", "register"), [("v3", "ymm"), ("v4", "zmm")])
@pytest.mark.parametrize("type_", ["float", "double", "kdops::Half", "kdops::BFloat16"])
def test_row_kernels_are_vectorised(instructions, level_name, register, type_):
    functions = {
        n: c
        for n, c in instructions[level_name].items()
        if f"rows_{level_name}(" in n and f"Job<{type_}>" in n
    }
    assert functions
    assert max(counts[register] for counts in functions.values()) > 100


@pytest.mark.parametrize(("level_name", "register"), [("v3", "ymm"), ("v4", "zmm")])
@pytest.mark.parametrize("type_", ["float", "double", "kdops::Half", "kdops::BFloat16"])
def test_peer_kernels_are_vectorised(instructions, level_name, register, type_):
    name = f"peer_rows_{level_name}(kdops::PeerJob<{type_}>"
    found = [c for n, c in instructions[level_name].items() if name in n]
    assert found and max(counts[register] for counts in found) > 1000


@pytest.mark.parametrize(("level_name", "register"), [("v3", "ymm"), ("v4", "zmm")])
@pytest.mark.parametrize("kernel", ["sum_tile", "stats_tile", "accumulate"])
def test_pair_kernels_are_vectorised(instructions, level_name, register, kernel):
    functions = {
        n: c for n, c in instructions[level_name].items() if f"{kernel}_{level_name}(" in n
    }
    assert functions
    assert all(counts[register] > 4 for counts in functions.values()), functions


def test_the_baseline_needs_no_newer_processor(instructions):
    for name, counts in instructions["base"].items():
        assert counts["ymm"] == counts["zmm"] == 0, name
    for name, counts in instructions["v3"].items():
        assert counts["zmm"] == 0, name
