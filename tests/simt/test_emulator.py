"""The emulator's intrinsics against numpy, and its schedules; then under sanitizers."""

import os

import numpy as np
import pytest

from . import build

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=str(build.missing()))
N = 3 * 64 - 27  # three blocks of two warps, the last one not full


def numbers(dtype, n=N, low=-100, high=100):
    random = np.random.default_rng(0)
    if np.dtype(dtype).kind in "iu":
        return random.integers(max(low, np.iinfo(dtype).min), high, n).astype(dtype)
    return random.uniform(low, high, n).astype(dtype)


def warps(x):
    """The lanes of each warp; the last one's missing lanes are 0, as the kernels have it."""
    return np.concatenate([x, np.zeros(-len(x) % 64, x.dtype)]).reshape(-1, 32)


def nan(*shape):
    return np.full(shape, np.nan, np.float32)


def test_indices(selftest):
    grid, block = (2, 3, 2), (4, 3, 6)
    found = np.full((12 * 72, 6), -1, np.int32)
    selftest.index(found, grid, block)
    every = np.indices(grid[::-1] + block[::-1]).reshape(6, -1)
    np.testing.assert_array_equal(found, every[[5, 4, 3, 2, 1, 0]].T)


@pytest.mark.parametrize("argument", [0, 1, 5, 31])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint32, np.int64])
def test_shuffles(selftest, dtype, argument):
    x, lane = numbers(dtype), np.arange(32)
    found = np.zeros(N, dtype)
    selftest.shuffle(x, found, argument)
    np.testing.assert_array_equal(found, warps(x)[:, lane ^ argument].reshape(-1)[:N])


def test_half_warps(selftest):
    x, found = numbers(np.int32), np.zeros(N, np.int32)
    selftest.half_warp(x, found)
    sums = warps(x).reshape(-1, 2, 16).sum(2) * [1, 16]  # what is summed twice, 16 times
    np.testing.assert_array_equal(found, sums.repeat(16, 1).reshape(-1)[:N])


def test_shared_memory(selftest):
    x, found = numbers(np.float32), nan(N)
    selftest.reverse(x, found)
    whole = warps(x)[:, ::-1].reshape(-1, 64)[:, ::-1]
    np.testing.assert_array_equal(found, whole.reshape(-1)[:N])


def test_shared_memory_is_nan_in_every_block(selftest):
    found = np.zeros((2, 4), np.float32)
    selftest.fresh(found)
    assert np.isnan(found).all()


def bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, "bfloat16"])
def test_packs(selftest, dtype):
    size = {np.float64: 2, np.float32: 4}.get(dtype, 8)
    stride = size * (3 * 64 - 9)
    x = numbers(np.float32, stride + size).round()
    bits, pack = x.astype(dtype if dtype != "bfloat16" else np.float32), selftest.pack
    if dtype == np.float16:
        bits, pack = bits.view(np.uint16), selftest.pack_half
    elif dtype == "bfloat16":
        bits, pack = (bits.view(np.uint32) >> 16).astype(np.uint16), selftest.pack_bfloat16
    found = np.zeros(stride, bits.dtype)
    assert pack(bits, found, size, stride)
    assert not pack(bits, found, 1, stride) and not pack(bits, found, 0, stride - 1)
    values = bfloat16(found) if dtype == "bfloat16" else found.view(dtype)
    np.testing.assert_array_equal(values, x[size:] + 1)


def test_every_half(selftest):
    bits = np.arange(1 << 16, dtype=np.uint16)
    found = nan(1 << 16)
    selftest.widen_half(bits, found)
    np.testing.assert_array_equal(found, bits.view(np.float16).astype(np.float32))
    selftest.widen_bfloat16(bits, found)
    np.testing.assert_array_equal(found, bfloat16(bits))


def test_narrowing_rounds_to_nearest_even(selftest):
    # All halves, what lies between two of them and next to that, and anything at all.
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    between = (halves[:-1] + halves[1:]) / 2
    anything = np.random.default_rng(0).integers(0, 1 << 32, 1 << 14, np.uint32).view(np.float32)
    edges = np.array([65519.99, 65520, 1e30, np.inf, np.nan, 2**-25, 1e-40, 0], np.float32)
    x = np.concatenate(
        [halves, between, np.nextafter(between, 0), np.nextafter(between, 1e9), anything, edges]
    )
    x = np.concatenate([x, -x])
    found = np.zeros(x.shape, np.uint16)

    selftest.narrow_half(x, found)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(found.view(np.float16), expected)
    assert (np.signbit(found.view(np.float16)) == np.signbit(x))[~np.isnan(x)].all()

    selftest.narrow_bfloat16(x, found)
    bits = x.view(np.uint32).astype(np.uint64)
    low = bits & 0xFFFF
    up = (low > 0x8000) | ((low == 0x8000) & ((bits >> 16) & 1 == 1))
    expected = ((bits >> 16) + up).astype(np.uint16)
    np.testing.assert_array_equal(found[~np.isnan(x)], expected[~np.isnan(x)])
    assert (found[np.isnan(x)] == 0x7FFF).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arithmetic(selftest, dtype):
    x, y = numbers(dtype), np.abs(numbers(dtype)[::-1]).copy()
    x[3] = np.nan
    found = np.zeros((4, N), dtype)
    selftest.arithmetic(x, y, found)
    expected = [np.fmin(x, y), np.fmax(x, y), np.nextafter(y, 0), x * y + 1]
    tolerances = (0, 0, 0, 1e-3)  # the product is fused, the expected one is not
    for row, wanted, tolerance in zip(found, expected, tolerances, strict=True):
        np.testing.assert_allclose(row, wanted, rtol=tolerance, atol=0)


# ---- schedules ---------------------------------------------------------------------------------


def starts(selftest, blocks=3):
    counter, found = np.zeros(1, np.int32), np.zeros(64 * blocks, np.int32)
    selftest.start(counter, found, blocks)
    return found.tolist()


def test_order_of_threads(selftest, order, monkeypatch):
    found = starts(selftest)
    assert sorted(found) == list(range(192)) and found == starts(selftest)
    if order == "forward":
        assert found == list(range(192))
    elif order == "reverse":
        assert found == list(range(191, -1, -1))
    else:
        monkeypatch.setenv("SIMT_ORDER", "random:4")
        assert found != starts(selftest)


def test_random_order_lets_one_warp_run_ahead(selftest, order):
    blocks, warps = 64, 4
    counters, found = np.zeros(blocks, np.int32), np.zeros((blocks, 5 * warps), np.int32)
    selftest.step(counters, found, 32 * warps)
    ahead = (found[:, :5] == found[:, :1]).all(1).sum()
    assert ahead in (range(16, 49) if order.startswith("random") else [0])


def test_a_call_chooses_the_order(selftest, order, monkeypatch):
    expected = starts(selftest)
    monkeypatch.setenv("SIMT_ORDER", "random:9")
    assert starts(selftest) != expected
    selftest.set_order(order)
    assert starts(selftest) == expected
    selftest.set_order(None)
    assert starts(selftest) != expected


def test_unknown_orders(selftest, monkeypatch):
    for name in ("", "sideways", "random", "random:", "random:x", "random:1 "):
        with pytest.raises(RuntimeError, match=f"random:SEED, got {name}$"):
            selftest.set_order(name)
    monkeypatch.setenv("SIMT_ORDER", "sideways")
    with pytest.raises(RuntimeError, match="random:SEED, got sideways"):
        starts(selftest)


@pytest.mark.slow
@pytest.mark.skipif("SIMT_MODE" in os.environ, reason="is one of those processes")
@pytest.mark.parametrize("mode", ["address", "thread"])
def test_in_other_modes(mode):
    files = (str(build.HERE / f"test_{name}.py") for name in ("emulator", "mistakes"))
    done = build.pytest(mode, *files)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.skipif("SIMT_MODE" in os.environ, reason="starts such processes")
@pytest.mark.parametrize(
    ("mode", "mistake", "report"),
    [
        ("address", "reads_past_the_end", "heap-buffer-overflow"),
        ("thread", "misses_a_barrier", "data race"),
    ],
)
def test_a_sanitizer_sees_into_a_module(mode, mistake, report):
    load = f"from tests.simt import build; build.load('selftest').{mistake}(64)"
    done = build.python(mode, "-c", load)
    assert done.returncode == 66 and report in done.stderr and mistake in done.stderr, done.stderr
