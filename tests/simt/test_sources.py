"""What keeps the kernels' text the same for nvcc and g++: only the seam names CUDA."""

import re

import pytest

from . import build

CUDA = build.ROOT / "csrc" / "cuda"
FILES = sorted(path for path in CUDA.glob("*") if path.name != "simt.h")
FORBIDDEN = re.compile(
    r"__(shared|global|device|host|constant|launch_bounds)__|<<<|>>>"
    r"|__CUDA\w*__|\b(asm|volatile|printf|malloc|cooperative_groups)\b|#include <cuda"
)
# Besides <...> of the standard library.
KERNELS_INCLUDE = re.compile(r'"(cuda/(simt\.h|\w+\.cuh)|formulas/\w+\.h)"|<[a-z_]+>')


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_only_the_seam_names_cuda(path):
    hits = [line for line in path.read_text().splitlines() if FORBIDDEN.search(line)]
    assert not hits


@pytest.mark.parametrize("path", sorted(CUDA.glob("*.cuh")), ids=lambda p: p.name)
def test_kernels_include_kernels_and_formulas(path):
    for include in re.findall(r"#include\s+(\S+)", path.read_text()):
        assert KERNELS_INCLUDE.fullmatch(include), include


@pytest.mark.parametrize("path", sorted(build.HERE.glob("*.*")), ids=lambda p: p.name)
def test_a_file_stays_small(path):
    assert len(path.read_text().splitlines()) <= 300
