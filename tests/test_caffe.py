"""IRG's Caffe layers: the authors' values, and their gradients, which are not the derivatives."""

import pytest
import torch

import kdops
from kdops.compat import caffe

from .cases import generator
from .metrics import value_and_gradient
from .test_relative_vectors import SECOND, TEACHER_SECOND
from .test_vectors import S, T, tensor

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)


def batch(rows=6, columns=4, seed=0, dtype=torch.float64):
    return torch.randn((2, rows, columns), generator=generator(seed)).to(dtype).unbind()


def test_edges():
    value, gradient = value_and_gradient(caffe.irg_edge_loss, tensor(S), tensor(T))
    assert value.item() == pytest.approx(0.2160546875, rel=1e-11)
    expected = [
        [0.034765625, 0.0296875],
        [0.029296875, -0.02578125],
        [-0.028125, -0.009765625],
        [-0.0359375, 0.005859375],
    ]
    torch.testing.assert_close(gradient, tensor(expected), rtol=0, atol=6e-11)


def test_vertices():
    student, teacher = (tensor(S), tensor(SECOND)), (tensor(T), tensor(TEACHER_SECOND))
    assert caffe.irg_transform_loss(student, teacher).item() == 0.6875


def test_against_the_clean_losses():
    """EuclideanLoss divides by 2 N, a vector's by 2."""
    student, teacher = batch()
    clean = kdops.irg_edge_loss(student, teacher, reduction="sum") / 12
    torch.testing.assert_close(caffe.irg_edge_loss(student, teacher), clean)
    layers = batch(seed=1), batch(seed=2)
    clean = kdops.irg_transform_loss(*layers, reduction="sum") / 2
    torch.testing.assert_close(caffe.irg_transform_loss(*layers), clean)


def test_gradient_of_edges_is_half_of_that_with_a_constant_maximum():
    student, teacher = batch()
    maximum = kdops.pairwise_distance(student, squared=True).amax()
    target = kdops.pairwise_distance(teacher, squared=True, normalize="max")

    def loss(x, _):
        d = (x[:, None] - x[None]).square().sum(-1)
        return (d / maximum - target).square().sum() / 12

    value, gradient = value_and_gradient(loss, student, teacher)
    actual = value_and_gradient(caffe.irg_edge_loss, student, teacher)
    torch.testing.assert_close(actual[0], value)
    torch.testing.assert_close(actual[1], gradient / 2)


def test_gradient_of_vertices_has_a_constant_maximum():
    (a, b), teacher = batch(), batch(seed=1)
    maximum = (a - b).square().sum(1).amax()
    change = (teacher[0] - teacher[1]).square().sum(1)
    u = (a - b).square().sum(1) / maximum - change / change.amax()
    expected = 2 * u[:, None] * (a - b) / maximum
    a, b = (x.clone().requires_grad_() for x in (a, b))
    caffe.irg_transform_loss((a, b), teacher).backward()
    torch.testing.assert_close(a.grad, expected)
    torch.testing.assert_close(b.grad, -expected)


def test_the_teacher_gets_none():
    student, teacher = batch(), batch(seed=1)
    student, teacher = ([x.requires_grad_() for x in layers] for layers in (student, teacher))
    value = caffe.irg_edge_loss(student[0], teacher[0])
    (value + caffe.irg_transform_loss(tuple(student), tuple(teacher))).backward()
    assert all(x.grad.abs().sum() > 0 for x in student) and all(x.grad is None for x in teacher)


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(rows):
    """Zero and not Caffe's NaN."""
    value, gradient = value_and_gradient(caffe.irg_edge_loss, *batch(rows))
    assert value == 0 and (gradient == 0).all()
    value = caffe.irg_transform_loss(batch(rows), batch(rows, seed=1))
    assert value == 0


def test_a_maximum_of_zero():
    student, teacher = batch()
    same = torch.ones_like(student)
    for pair in ((same, teacher), (student, same), (same, same)):
        value, gradient = value_and_gradient(caffe.irg_edge_loss, *pair)
        assert value.isfinite() and gradient.isfinite().all()
        assert pair[0] is student or (gradient == 0).all()
    assert caffe.irg_transform_loss((same, same), (student, student)) == 0
    assert caffe.irg_transform_loss((same, same), (student, teacher)) > 0


@DTYPES
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e4, 1e30])
def test_types_and_scales(dtype, scale):
    if dtype == torch.float16 and scale in (1e-30, 1e30):
        pytest.skip("outside float16")
    student, teacher = ((scale * x).to(dtype) for x in batch())
    value, gradient = value_and_gradient(caffe.irg_edge_loss, student, teacher)
    exact = caffe.irg_edge_loss(student.double(), teacher.double())
    assert value.dtype == torch.float32 and value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert gradient.dtype == dtype and gradient.isfinite().all()
    layers = [[(scale * x).to(dtype) for x in batch(seed=seed)] for seed in (1, 2)]
    exact = caffe.irg_transform_loss(*([x.double() for x in pair] for pair in layers))
    assert caffe.irg_transform_loss(*layers).item() == pytest.approx(exact.item(), rel=1e-5)
