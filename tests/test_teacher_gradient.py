"""The teacher's gradient of a loss of rows: composed beside the native value, as awkward as it."""

import math

import pytest
import torch

import kdops

from .cases import LOGITS, generator
from .metrics import gradient_error, upstream

INF, NAN = math.inf, math.nan
LOSSES = [kdops.kd_loss, kdops.soft_cross_entropy]
each = pytest.mark.parametrize("function", LOSSES, ids=lambda function: function.__name__)
REDUCTIONS = ("batchmean", "sum", "none")
HALVES = (torch.bfloat16, torch.float16)


@pytest.fixture
def composed(backend):
    if backend == "reference":
        pytest.skip("the reference's is autograd's, which cancels")


def logits(name="randn", shape=(9, 7), dtype=torch.float32):
    student, teacher = LOGITS[name](shape, generator())
    return student.to(dtype), teacher.to(dtype)


def gradient(function, student, teacher, *arguments, weights=torch.ones_like, **kwargs):
    teacher = teacher.detach().clone().requires_grad_()
    value = function(student, teacher, *arguments, teacher_grad=True, **kwargs)
    return torch.autograd.grad(value, teacher, weights(value.detach()))[0]


def oracle(function, student, teacher, temperature, row_weight):
    """p_c sum_j p_j (u_c - u_j) in float64: every difference is one of logits, nothing cancels."""
    student, teacher = student.double(), teacher.double()
    p = torch.softmax(teacher / temperature, -1)
    u = (teacher - student if function is kdops.kd_loss else -student) / temperature
    differences = u[:, :, None] - u[:, None, :]
    return row_weight / temperature * (p[:, :, None] * p[:, None, :] * differences).sum(-1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize("name", LOGITS)
@each
def test_accuracy(composed, function, name, dtype):
    student, teacher = logits(name, (33, 100), dtype)
    weights = upstream(student[:, 0].double())
    options = {"reduction": "none", "weights": lambda value: weights.to(value), "temperature": 2.0}
    found = gradient(function, student, teacher, **options)
    assert found.dtype == dtype
    exact = oracle(function, student, teacher, 2.0, 4 * weights[:, None])
    assert gradient_error(found, exact) < (1e-13 if dtype == torch.float64 else 2e-6)


@pytest.mark.parametrize("temperature", [2.0**-20, 0.5, 30.0, 2.0**20])
@pytest.mark.parametrize("scale_t2", [False, True])
@each
def test_temperatures(composed, function, temperature, scale_t2):
    student, teacher = logits()
    found = gradient(function, student, teacher, temperature=temperature, scale_t2=scale_t2)
    weight = (temperature**2 if scale_t2 else 1.0) / len(student)
    assert gradient_error(found, oracle(function, student, teacher, temperature, weight)) < 1e-6


@each
def test_both_get_what_each_gets_alone(backend, function):
    student, teacher = (x.requires_grad_() for x in logits())
    value = function(student, teacher, teacher_grad=True)
    ours, theirs = torch.autograd.grad(value, (student, teacher), retain_graph=True)
    again = torch.autograd.grad(value, (student, teacher))
    assert torch.equal(ours, again[0]) and torch.equal(theirs, again[1])
    assert torch.equal(theirs, gradient(function, student.detach(), teacher))
    alone = torch.autograd.grad(function(student, teacher.detach()), student)[0]
    torch.testing.assert_close(ours, alone, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        value, function(student.detach(), teacher.detach()), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_equal_rows(backend, offset):
    """Exactly zero, also where one is an offset above the other."""
    teacher = logits()[1].round()
    assert (gradient(kdops.kd_loss, teacher + offset, teacher) == 0).all()


@each
def test_masked_columns_are_dropped(backend, function):
    """-inf in the same columns of both equals a smaller vocabulary; in the teacher it gives 0."""
    student, teacher = logits()
    kept, masked = [0, 1, 3, 6], [2, 4, 5]
    smaller = gradient(function, student[:, kept], teacher[:, kept])
    teacher[:, masked] = -INF
    for fill in (0.0, -INF) if function is kdops.kd_loss else (-INF,):
        student[:, masked] = fill
        found = gradient(function, student, teacher)
        assert (found[:, masked] == 0).all()
        if fill == -INF:
            torch.testing.assert_close(found[:, kept], smaller, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@each
def test_a_bad_row_is_its_own_alone(backend, function, value):
    student, teacher = logits()
    clean = gradient(function, student, teacher)
    student[4, 2] = value
    found = gradient(function, student, teacher)
    others = [i for i in range(9) if i != 4]
    assert torch.equal(found[others], clean[others])
    assert not found[4].isfinite().all()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ignored_rows_give_exactly_zero(backend, value, reduction):
    student, teacher = logits()
    target = torch.tensor([0, 1, -100, 3, -100, 5, 6, 0, -100])
    kept = target != -100
    options = {"reduction": reduction, "ce_weight": 0.5}
    expected = gradient(kdops.kd_loss, student[kept], teacher[kept], target[kept], **options)
    student[~kept], teacher[~kept] = value, value
    found = gradient(kdops.kd_loss, student, teacher, target, **options)
    assert (found[~kept] == 0).all()
    torch.testing.assert_close(found[kept], expected, rtol=1e-6, atol=1e-8)
    assert (gradient(kdops.kd_loss, student, teacher, torch.full((9,), -100)) == 0).all()


@each
def test_no_rows_one_class_and_leading_dimensions(backend, function):
    assert gradient(function, torch.ones(0, 5), torch.ones(0, 5)).shape == (0, 5)
    assert (gradient(function, torch.ones(3, 1), torch.zeros(3, 1)) == 0).all()
    student, teacher = logits(shape=(24, 6))
    flat = gradient(function, student, teacher, reduction="none")
    shape = (2, 3, 4, 6)
    shaped = gradient(function, student.view(shape), teacher.view(shape), reduction="none")
    assert torch.equal(shaped.flatten(0, -2), flat)


def test_the_hard_term_alone_leaves_the_teacher_out(backend):
    student, teacher = (x.requires_grad_() for x in logits())
    target = torch.arange(9) % 7
    options = {"kd_weight": 0.0, "ce_weight": 1.0, "teacher_grad": True}
    kdops.kd_loss(student, teacher, target, **options).backward()
    assert teacher.grad is None and student.grad is not None
    assert not kdops.kd_loss(student.detach(), teacher, target, **options).requires_grad


@each
def test_batched_upstream(backend, function):
    student, teacher = (x.requires_grad_() for x in logits())
    value = function(student, teacher, reduction="none", teacher_grad=True)
    weights = torch.stack([upstream(value, seed) for seed in range(3)])
    batched = torch.autograd.grad(value, teacher, weights, is_grads_batched=True, retain_graph=True)
    for weight, found in zip(weights, batched[0], strict=True):
        expected = torch.autograd.grad(value, teacher, weight, retain_graph=True)[0]
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("labels", [False, True])
@each
def test_compile(backend, function, labels):
    torch._dynamo.reset()
    student, teacher = (x.requires_grad_() for x in logits())
    options = {}
    if labels and function is kdops.kd_loss:
        options = {"target": torch.tensor([0, 1, -100, 3, -100, 5, 6, 0, 1]), "ce_weight": 0.5}
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(
        function(student, teacher, teacher_grad=True, **options), (student, teacher)
    )
    found = torch.autograd.grad(
        compiled(student, teacher, teacher_grad=True, **options), (student, teacher)
    )
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)
