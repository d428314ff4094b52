"""Sizes that only a GPU's memory holds, where an index of 32 bits would overflow."""

import math

import pytest
import torch

import kdops

from ..cases import BY_NAME
from ..metrics import value_and_gradient
from .batches import close, equal

GIB = 2**30
HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


@pytest.fixture
def room(gpu):
    """room(bytes): skip where the card has less."""

    def check(wanted: float) -> None:
        torch.cuda.empty_cache()
        free = torch.cuda.mem_get_info()[0]
        if free < wanted:
            pytest.skip(f"needs {wanted / GIB:.0f} GiB, there are {free / GIB:.0f}")

    yield check
    torch.cuda.empty_cache()


def randn(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype, device="cuda")


def peak(run) -> int:
    """Bytes held at once by what runs, over what was held before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@HALF
def test_many_rows_of_many_classes(room, dtype):
    """(2^16 + 1, 2^15): the first, last and middle rows are those of a small batch."""
    rows, classes = 2**16 + 1, 2**15
    room(4.5 * 2 * rows * classes)
    student = randn(rows, classes, dtype=dtype).requires_grad_()
    teacher = randn(rows, classes, dtype=dtype, seed=1)
    value = kdops.kd_loss(student, teacher, reduction="none")
    (gradient,) = torch.autograd.grad(value, student, torch.ones_like(value))
    for start in (0, rows // 2, rows - 4):
        some = slice(start, start + 4)
        few = value_and_gradient(
            kdops.kd_loss, student[some].detach(), teacher[some], reduction="none"
        )
        torch.testing.assert_close(value[some], few[0], rtol=1e-5, atol=0)
        torch.testing.assert_close(gradient[some], few[1], rtol=2e-2, atol=1e-7)


@HALF
def test_a_row_beyond_32_bits(room, dtype):
    """(1, 2^31 + 64), the teacher even, the last 64 logits of the student 20 above the others."""
    classes, high = 2**31 + 64, 64
    room(3.5 * 2 * classes)
    student = torch.zeros(1, classes, dtype=dtype, device="cuda")
    student[0, -high:] = 20.0
    student.requires_grad_()
    value = kdops.kd_loss(student, torch.zeros_like(student), temperature=1.0, reduction="sum")
    (gradient,) = torch.autograd.grad(value, student)
    z = classes - high + high * math.exp(20)
    expected = math.log(z / classes) - 20 * high / classes
    assert abs(value.item() - expected) <= 1e-5 * expected
    rounding = {"rtol": torch.finfo(dtype).eps, "atol": torch.finfo(dtype).smallest_normal}
    for at, exponent in ((0, 0), (classes // 2, 0), (2**31 - 1, 0), (2**31, 20), (-1, 20)):
        slope = torch.tensor(math.exp(exponent) / z - 1 / classes, dtype=torch.float64)
        torch.testing.assert_close(gradient[0, at].double().cpu(), slope, **rounding)


@pytest.mark.parametrize("shape", [(32, 128256), (4, 262144)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rows_keep_one_gradient(room, shape, dtype):
    student, teacher = randn(*shape, dtype=dtype).requires_grad_(), randn(*shape, dtype=dtype)
    gradient = student.nbytes

    def run():
        kdops.kd_loss(student, teacher).backward()
        student.grad = None

    run()
    assert peak(run) <= 1.05 * gradient + 2**20


RELATIONS = {
    "rkd_angle_loss": ((4096, 64), GIB),
    "rkd_distance_loss": ((16384, 256), GIB / 8),
    "irg_edge_loss": ((16384, 256), GIB / 8),
    "cckd_loss": ((16384, 256), GIB / 8),
    "pkt_loss": ((4096, 64), GIB / 4),
    "sp_loss": ((4096, 64), GIB / 4),
}


@pytest.mark.parametrize("name", RELATIONS)
def test_many_rows_of_a_relation(room, name):
    """Neither N x N maps nor triplets are kept, and the order of the rows does not matter."""
    (rows, columns), most = RELATIONS[name]
    room(2 * GIB)
    case = BY_NAME[name]
    student, teacher = randn(rows, columns), randn(rows, columns, seed=1)
    results = []
    held = peak(lambda: results.append(value_and_gradient(case.function, student, teacher)))
    assert held < most, f"{held / 2**20:.0f} MiB"
    order = torch.randperm(rows, device="cuda")
    value, gradient = value_and_gradient(case.function, student[order], teacher[order])
    torch.testing.assert_close(value, results[0][0], rtol=1e-5, atol=0)
    close(gradient, results[0][1][order], 1e-4)


def test_many_rows_are_the_same_again(room):
    room(2 * GIB)
    student, teacher = randn(16384, 64), randn(16384, 64, seed=1)
    given = (BY_NAME["irg_edge_loss"].function, student, teacher)
    assert equal(value_and_gradient(*given), value_and_gradient(*given))


def test_too_large_a_map_fails_cleanly(gpu):
    """An allocation that cannot be had is an error, and the next call works."""
    with pytest.raises(RuntimeError, match="memory"):
        kdops.triplet_angle(randn(2**15, 4))
    assert kdops.triplet_angle(randn(4, 3)).isfinite().all()
