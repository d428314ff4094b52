"""What the emulator refuses: undefined behaviour with a message, CUDA it does not know at all."""

import os
import re
import subprocess

import pytest

from . import build

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))

SITE = r"thread \((\d+), 0, 0\) in {} at .*mistakes\.cuh:(\d+)"
RETURNED = r"thread \((\d+), 0, 0\) has returned"
BARRIER, WARP = SITE.format("__syncthreads"), SITE.format("__syncwarp")
SHUFFLE = SITE.format("__shfl_xor_sync")
EITHER = SITE.format("__sync(?:warp|threads)")
VALUE = SITE.format("(?:__shfl_xor_sync|__syncwarp)")
BLOCK = r", block \(\d, 0, 0\)$"
MESSAGES = {
    "different_barriers": f"threads of a block meet in different barriers: {BARRIER}, {BARRIER}",
    "returns_before_barrier": "a thread returns while another waits in a barrier: "
    f"{RETURNED}, {BARRIER}|a thread waits in a barrier after another has returned: "
    f"{BARRIER}, {RETURNED}",
    "barrier_against_warp": f"deadlock: {EITHER}, {EITHER}",
    "different_operations": f"lanes of a warp meet in different operations: {VALUE}, {VALUE}",
    "different_masks": f"lanes of a warp meet with different masks: {WARP}, {WARP}|"
    f"deadlock: {EITHER}, {EITHER}",
    "not_in_own_mask": f"a lane calls with a mask without it: {WARP}",
    "shuffle_from_outside": "a shuffle reads a lane that has returned or is not in the mask: "
    + SHUFFLE,
    "shuffle_from_returned": "a shuffle reads a lane that has returned or is not in the mask: "
    + SHUFFLE,
}


@pytest.mark.parametrize("mistake", MESSAGES)
def test_mistake(selftest, mistake):
    with pytest.raises(RuntimeError, match=f"^(?:{MESSAGES[mistake]}){BLOCK}") as caught:
        getattr(selftest, mistake)(64)
    lines = re.findall(r"cuh:(\d+)", str(caught.value))
    if mistake in ("different_barriers", "different_operations", "barrier_against_warp"):
        assert len(set(lines)) == 2
    selftest.shuffle_from_nobody(64)  # the next launch starts afresh


def test_shuffle_from_a_lane_that_never_was(selftest):
    with pytest.raises(RuntimeError, match=r"a shuffle reads a lane .* in __shfl_xor_sync"):
        selftest.shuffle_from_nobody(48)
    selftest.shuffle_from_nobody(64)


def test_limits(selftest):
    good = (3, 2, 1)
    selftest.nothing(good, (1024, 1, 1), 227 << 10)
    selftest.nothing(good, (2, 8, 64), 0)
    for block in ((0, 1, 1), (1025, 1, 1), (33, 32, 1), (1, 1, 65)):
        with pytest.raises(RuntimeError, match=rf"1 to 1024 threads.*got \({block[0]}, "):
            selftest.nothing(good, block, 0)
    for grid in ((0, 1, 1), (1 << 31, 1, 1), (1, 65536, 1), (1, 1, 65536)):
        with pytest.raises(RuntimeError, match=rf"a grid has 1 to .* got \({grid[0]}, "):
            selftest.nothing(grid, (64, 1, 1), 0)
    with pytest.raises(RuntimeError, match=r"at most 232448 bytes .* got 232449"):
        selftest.nothing(good, (64, 1, 1), (227 << 10) + 1)


def test_static_shared_memory_counts(selftest):
    static = 2048 * 4
    for most in (48 << 10, (48 << 10) + 1, 227 << 10):  # beyond 40 KiB simt::launch asks for more
        selftest.too_much_shared(most - static)
    dynamic, most = (227 << 10) - static + 1, 227 << 10
    with pytest.raises(RuntimeError, match=rf"at most {most} bytes .* got {dynamic + static}"):
        selftest.too_much_shared(dynamic)


# ---- what must not compile ---------------------------------------------------------------------

REFUSED = {
    "fast exponential": "x[0] = __expf(x[0]);",
    "active mask": "x[0] = __activemask();",
    "atomic": "atomicAdd(x, 1.0f);",
    "shuffle of part of a warp": "x[0] = __shfl_xor_sync(~0u, x[0], 1, 16);",
    "shuffle of 2 bytes": "short s = 0; __shfl_xor_sync(~0u, s, 1);",
    "shared object with a constructor": "struct A { A() {} }; SIMT_SHARED(A, a);",
    "bare shared memory": "__shared__ float s[32];",
    "write of an index": "threadIdx.x = 0;",
    "half without widen": "__half h{}; x[0] = 2.0f * h;",
}


@pytest.mark.skipif("SIMT_MODE" in os.environ, reason="the compiler is asked once")
def test_only_listed_intrinsics_compile(tmp_path):
    def errors(body):
        source = tmp_path / "kernel.cpp"
        source.write_text(f'#include "cuda/simt.h"\nSIMT_KERNEL kernel(float* x) {{ {body} }}\n')
        command = ["g++", *build.COMPILE, "-fsyntax-only", str(source)]
        return subprocess.run(command, capture_output=True, text=True).stderr

    assert not errors("SIMT_SHARED(float, s, [32]); s[0] = __shfl_xor_sync(~0u, x[0], 1);")
    for name, body in REFUSED.items():
        assert "error" in errors(body), name
