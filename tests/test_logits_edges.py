"""Awkward logits: infinities, NaN, ignored rows, empty batches, extreme sizes."""

import math

import pytest
import torch

import kdops

from . import stand_in
from .cases import ROW_LOSSES, generator, small_inputs
from .metrics import value_and_gradient

INF, NAN = math.inf, math.nan
KL_AND_CE = [kdops.kd_loss, kdops.soft_cross_entropy]
both = pytest.mark.parametrize("function", KL_AND_CE, ids=lambda function: function.__name__)
each = pytest.mark.parametrize("case", ROW_LOSSES, ids=lambda case: case.name)


def logits(rows=4, columns=6, dtype=torch.float32, seed=0):
    shape = (2, rows, columns)
    return (2 * torch.randn(shape, generator=generator(seed))).to(dtype).unbind()


def rows(function, student, teacher, **kwargs):
    """Value and gradient, row by row."""
    return value_and_gradient(function, student, teacher, reduction="none", **kwargs)


def others(x, row):
    return torch.cat([x[:row], x[row + 1 :]])


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("side", ["student", "teacher"])
@each
def test_nan_and_plus_infinity_stay_in_their_row(backend, case, side, value):
    student, teacher, kwargs = small_inputs(case)
    if case.name == "kd_loss-hard" and side == "teacher":
        pytest.skip("the hard term does not read the teacher")
    clean = rows(case.function, student, teacher, **kwargs)
    for row, column in ((0, 0), (2, 9), (5, 4)):
        spoiled = {"student": student.clone(), "teacher": teacher.clone()}
        spoiled[side][row, column] = value
        found = rows(case.function, **spoiled, **kwargs)
        assert found[0][row].isnan()
        assert not found[1][row].isfinite().all()
        for expected, actual in zip(clean, found, strict=True):
            assert torch.equal(others(actual, row), others(expected, row))
        total = case.function(**spoiled, **kwargs)
        assert total.isnan()


@both
def test_minus_infinity_in_the_teacher_is_a_probability_of_zero(backend, function):
    student, teacher = logits()
    teacher[1, 2] = -INF
    value, gradient = rows(function, student, teacher)
    exact = rows(function, student.double(), teacher.double().clamp(min=-1e6))
    torch.testing.assert_close(value, exact[0].float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, exact[1].float(), rtol=1e-5, atol=1e-7)


@both
def test_minus_infinity_in_the_student_alone(backend, function):
    student, teacher = logits()
    clean = rows(function, student, teacher)[0]
    student[1, 2] = -INF
    value, gradient = rows(function, student, teacher)
    assert value[1] == INF and torch.equal(others(value, 1), others(clean, 1))
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("masked", [[2], [0, 5], [0, 1, 2, 3], [5, 4]], ids=str)
@both
def test_masked_columns_are_dropped(backend, function, masked, dtype):
    """-inf in the same columns of both equals a smaller vocabulary."""
    student, teacher = logits(dtype=dtype)
    kept = [c for c in range(6) if c not in masked]
    expected = rows(function, student[:, kept], teacher[:, kept])
    student[:, masked], teacher[:, masked] = -INF, -INF
    value, gradient = rows(function, student, teacher)
    # Sums of other lengths may be taken in another order.
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(value, expected[0], rtol=tolerance, atol=tolerance)
    assert (gradient[:, masked] == 0).all()
    half = 1e-2 if dtype == torch.bfloat16 else tolerance
    torch.testing.assert_close(gradient[:, kept], expected[1], rtol=half, atol=half)


@both
def test_a_row_of_minus_infinity_is_undefined_alone(backend, function):
    student, teacher = logits()
    clean = rows(function, student, teacher)
    student[1], teacher[1] = -INF, -INF
    value, gradient = rows(function, student, teacher)
    assert value[1].isnan()
    assert torch.equal(others(value, 1), others(clean[0], 1))
    assert torch.equal(others(gradient, 1), others(clean[1], 1))


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("ce_weight", [0.0, 0.5])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_rows_give_exactly_zero(backend, value, ce_weight, reduction):
    student, teacher = logits()
    target = torch.tensor([0, -100, 2, -100])
    kept = target != -100
    options = {"ce_weight": ce_weight, "reduction": reduction}
    expected = value_and_gradient(
        kdops.kd_loss, student[kept], teacher[kept], target=target[kept], **options
    )
    student[~kept], teacher[~kept] = value, value
    found, gradient = value_and_gradient(kdops.kd_loss, student, teacher, target=target, **options)
    assert (gradient[~kept] == 0).all()
    torch.testing.assert_close(gradient[kept], expected[1], rtol=1e-6, atol=0)
    if reduction == "none":
        assert (found[~kept] == 0).all()
        found = found[kept]
    torch.testing.assert_close(found, expected[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum"])
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.9, 0.1), (0.0, 1.0)], ids=str)
def test_all_rows_ignored(backend, reduction, weights):
    student, teacher = logits()
    target = torch.full((4,), -100)
    options = {"kd_weight": weights[0], "ce_weight": weights[1], "reduction": reduction}
    value, gradient = value_and_gradient(kdops.kd_loss, student, teacher, target=target, **options)
    assert value == 0 and (gradient == 0).all()


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
@each
def test_no_rows(backend, case, reduction):
    student, teacher, kwargs = case.make_inputs((0, 7), torch.float32, generator())
    value, gradient = value_and_gradient(
        case.function, student, teacher, reduction=reduction, **kwargs
    )
    assert gradient.shape == (0, 7)
    assert value.shape == ((0,) if reduction == "none" else ())
    assert value.numel() == 0 or value == 0


@each
def test_one_row(backend, case):
    student, teacher, kwargs = small_inputs(case)
    expected = rows(case.function, student, teacher, **kwargs)
    kwargs = {name: x[:1] if name == "target" else x for name, x in kwargs.items()}
    value, gradient = rows(case.function, student[:1], teacher[:1], **kwargs)
    assert torch.equal(value, expected[0][:1]) and torch.equal(gradient, expected[1][:1])


@both
def test_one_class(backend, function):
    student, teacher = logits(columns=1)
    value, gradient = rows(function, student, teacher)
    assert (value == 0).all() and (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@both
def test_huge_logits(backend, function, dtype):
    student, teacher = (6e4 * x.sign() for x in logits(dtype=dtype))
    value, gradient = rows(function, student, teacher)
    exact = rows(function, student.double(), teacher.double())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact[0].float(), rtol=1e-5, atol=1e-5)
    assert gradient.dtype == dtype and gradient.isfinite().all()


@both
def test_leading_dimensions_are_rows(backend, function):
    student, teacher = logits(rows=24)
    flat = rows(function, student, teacher)
    shaped = rows(function, student.view(2, 3, 4, 6), teacher.view(2, 3, 4, 6))
    assert shaped[0].shape == (2, 3, 4) and torch.equal(shaped[0].flatten(), flat[0])
    assert torch.equal(shaped[1].flatten(0, -2), flat[1])
    mean = function(student.view(4, 6, 6), teacher.view(4, 6, 6))
    assert torch.equal(mean, function(student, teacher))


def test_labels_of_leading_dimensions(backend):
    student, teacher = logits(rows=24)
    target = torch.arange(24) % 6
    flat = kdops.kd_loss(student, teacher, target, ce_weight=0.5, reduction="none")
    shape = (4, 6, 6)
    shaped = kdops.kd_loss(
        student.view(shape), teacher.view(shape), target.view(4, 6), ce_weight=0.5, reduction="none"
    )
    assert torch.equal(shaped.flatten(), flat)


@each
def test_reductions_agree(backend, case):
    student, teacher, kwargs = small_inputs(case)
    values = {
        reduction: value_and_gradient(
            case.function, student, teacher, reduction=reduction, **kwargs
        )
        for reduction in ("none", "sum", "mean", "batchmean")
    }
    counted = (kwargs["target"] != -100).sum() if "target" in kwargs else len(student)
    each_row = values["none"]
    for reduction, count in (("sum", 1), ("mean", counted), ("batchmean", counted)):
        value, gradient = values[reduction]
        torch.testing.assert_close(value, each_row[0].sum() / count, rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient, each_row[1] / count, rtol=1e-6, atol=1e-7)


def test_weights(backend):
    student, teacher = logits()
    target = torch.arange(4)
    soft = kdops.kd_loss(student, teacher)
    hard = torch.nn.functional.cross_entropy(student, target)
    for kd, ce in ((1.0, 1.0), (0.3, 0.7), (-1.0, 2.0), (0.0, 0.0), (2.0, -0.5)):
        value = kdops.kd_loss(student, teacher, target, kd_weight=kd, ce_weight=ce)
        torch.testing.assert_close(value, kd * soft + ce * hard, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_label_that_is_no_class(request, backend, reduction):
    """A CUDA kernel reads nothing out of bounds, and its row is NaN; others see test_bad_input."""
    if request.node.callspec.params["backend"] not in stand_in.MODULES:
        pytest.skip("the host reads the labels")
    for label in (6, -1, 2**40):
        target = torch.arange(6)
        target[4] = label
        student, teacher = logits(6)
        value = kdops.kd_loss(student, teacher, target, ce_weight=1.0, reduction=reduction)
        assert value.isnan().tolist() == ([False] * 4 + [True, False] if value.dim() else True)
