"""One teacher, several student layers: the sum over them, from one map of the teacher."""

import ctypes

import pytest
import torch

from kdops import _native
from kdops.reference import relations

from .cases import ONE_TO_MANY, generator

each = pytest.mark.parametrize("case", ONE_TO_MANY, ids=lambda case: case.name)


def layers(dtype=torch.float32, rows=9):
    """Three student layers of different widths, and a teacher."""
    widths = (4, 17, 64)
    students = [torch.randn(rows, d, generator=generator(d)).to(dtype) for d in widths]
    return [x.requires_grad_() for x in students], torch.randn(rows, 8, generator=generator()).to(
        dtype
    )


@each
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("container", [list, tuple])
def test_sum_over_the_students(backend, case, reduction, container):
    students, teacher = layers()
    value = case.function(container(students), teacher, reduction=reduction)
    single = [case.function(x, teacher, reduction=reduction) for x in students]
    torch.testing.assert_close(value, sum(single), rtol=2e-6, atol=1e-7)
    gradients = torch.autograd.grad(value.sum(), students)
    for x, one, gradient in zip(students, single, gradients, strict=True):
        expected = torch.autograd.grad(one.sum(), x)[0]
        torch.testing.assert_close(gradient, expected, rtol=2e-5, atol=1e-6)


@each
def test_students_without_gradient(backend, case):
    students, teacher = layers()
    students[1].requires_grad_(False)
    case.function(students, teacher).backward()
    assert [x.grad is not None for x in students] == [True, False, True]


@each
def test_students_of_other_types(backend, case):
    students, teacher = layers()
    mixed = [students[0].detach().half().requires_grad_(), students[1]]
    value = case.function(mixed, teacher)
    value.backward()
    assert value.dtype == torch.float32 and mixed[0].grad.dtype == torch.float16


@each
def test_a_student_twice(backend, case):
    (student, *_), teacher = layers()
    gradient = torch.autograd.grad(case.function([student, student], teacher), student)[0]
    expected = torch.autograd.grad(case.function(student, teacher), student)[0]
    torch.testing.assert_close(gradient, 2 * expected, rtol=1e-5, atol=1e-7)


@each
def test_one_is_the_list_of_one(backend, case):
    (student, *_), teacher = layers()
    assert torch.equal(case.function([student], teacher), case.function(student, teacher))


MAPS = {
    "rkd_distance_loss": "mean_normalised_distances",
    "rkd_angle_loss": "triplet_angle",
    "irg_edge_loss": "max_normalised_squared_distances",
}


@each
def test_the_reference_builds_the_teachers_map_once(case, monkeypatch):
    students, teacher = layers()
    built, make_map = [], getattr(relations, MAPS[case.name])
    monkeypatch.setattr(
        relations, MAPS[case.name], lambda x, *a, **k: built.append(x) or make_map(x, *a, **k)
    )
    case.reference(students, teacher)
    assert [x.shape[1] for x in built].count(teacher.shape[1]) == 1
    assert len(built) == 1 + len(students)


@each
def test_the_kernels_build_the_teachers_map_once(native, case):
    """A batch of up to 64 rows has one tile a map."""
    counter = _native._handles["cpu"].kdops_map_tiles_built
    counter.restype = ctypes.c_int64
    students, teacher = layers()

    def built(some):
        before = counter()
        case.function(some, teacher)
        return counter() - before

    assert built(students[:1]) == 2 and built(students) == 1 + len(students)
