"""What autograd may ask of a gradient: any upstream, twice, batched, for one input or for none."""

import pytest
import torch

import kdops

from .cases import CASES, LOSSES, ROW_LOSSES, call, small_inputs
from .metrics import upstream, value_and_gradient

each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
losses = pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)


def close(actual, expected):
    atol = 2e-6 * max(1.0, expected.abs().amax().item())
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=atol)


def grad_of(case, weights, dtype=torch.float32):
    student, teacher, kwargs = small_inputs(case, dtype)
    return value_and_gradient(case.function, student, teacher, weights, **kwargs)[1]


@pytest.mark.parametrize("factor", [0.0, -2.5])
@each
def test_constant(backend, case, factor):
    expected = factor * grad_of(case, torch.ones_like)
    close(grad_of(case, lambda value: torch.full_like(value, factor)), expected)
    expanded = grad_of(case, lambda value: torch.tensor(factor, dtype=value.dtype).expand_as(value))
    close(expanded, expected)


@pytest.mark.parametrize("case", [c for c in CASES if c.kind == "map"], ids=lambda c: c.name)
def test_layouts_of_a_map(backend, case):
    expected = grad_of(case, upstream)
    close(grad_of(case, lambda value: upstream(value).mT.contiguous().mT), expected)
    wide = grad_of(case, lambda value: upstream(value).repeat_interleave(2, -1)[..., ::2])
    close(wide, expected)


@pytest.mark.parametrize("case", ROW_LOSSES, ids=lambda c: c.name)
def test_layouts_of_rows(backend, case):
    student, teacher, kwargs = small_inputs(case)
    arguments = (case.function, student, teacher)
    kwargs["reduction"] = "none"
    _, one = value_and_gradient(*arguments, **kwargs)
    weights = upstream(one[:, 0])
    for weight in (weights, weights.repeat_interleave(3)[::3], weights[:1].expand_as(weights)):
        _, gradient = value_and_gradient(*arguments, lambda value, w=weight: w, **kwargs)
        close(gradient, weight[:, None] * one)


@each
def test_backward_twice(backend, case):
    """What was handed out first is not changed by the second backward, nor by its user."""
    student, teacher, kwargs = small_inputs(case)
    student.requires_grad_()
    value = call(case.function, student, teacher, **kwargs)
    weights = upstream(value)
    (first,) = torch.autograd.grad(value, student, weights, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(value, student, -3 * weights, retain_graph=True)
    assert torch.equal(first, kept)
    first.fill_(7)
    (third,) = torch.autograd.grad(value, student, weights)
    close(second, -3 * kept)
    assert torch.equal(third, kept)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(value, student, weights)


@each
def test_accumulation(backend, case):
    student, teacher, kwargs = small_inputs(case)
    student.requires_grad_()
    for _ in range(2):
        call(case.function, student, teacher, **kwargs).sum().backward()
    expected = 2 * grad_of(case, torch.ones_like)
    torch.testing.assert_close(student.grad, expected, rtol=1e-5, atol=1e-5)


@each
def test_batched_upstream(backend, case):
    student, teacher, kwargs = small_inputs(case)
    student.requires_grad_()
    value = call(case.function, student, teacher, **kwargs)
    weights = torch.stack([upstream(value, seed) for seed in range(3)])
    (batched,) = torch.autograd.grad(value, student, weights, is_grads_batched=True)
    for weight, gradient in zip(weights, batched, strict=True):
        close(gradient, grad_of(case, lambda value, w=weight: w))


@losses
def test_one_graph_of_many(backend, case):
    """The student is not a leaf and the loss not the root."""
    student, teacher, kwargs = small_inputs(case)
    leaf = student.clone().requires_grad_()
    (3 * case.function(leaf * 2, teacher, **kwargs) + leaf.sum()).backward()
    inner = value_and_gradient(case.function, 2 * student, teacher, **kwargs)[1]
    torch.testing.assert_close(leaf.grad, 6 * inner + 1, rtol=1e-5, atol=1e-5)


@losses
def test_teacher_gets_no_gradient(backend, case):
    student, teacher, kwargs = small_inputs(case)
    teacher.requires_grad_()
    value = case.function(student, teacher, **kwargs)
    assert not value.requires_grad
    with pytest.raises(RuntimeError, match="does not require grad"):
        value.backward()
    student.requires_grad_()
    case.function(student, teacher, **kwargs).backward()
    assert student.grad is not None and teacher.grad is None


@pytest.mark.parametrize(
    "case", [c for c in LOSSES if c.name != "kd_loss-hard"], ids=lambda c: c.name
)
def test_teacher_gets_its_gradient_when_asked(backend, case):
    student, teacher, kwargs = small_inputs(case)
    for needs_student in (False, True):
        student = student.detach().requires_grad_(needs_student)
        teacher = teacher.detach().requires_grad_()
        case.function(student, teacher, teacher_grad=True, **kwargs).backward()
        exact = teacher.detach().double().requires_grad_()
        case.reference(student.detach().double(), exact, **kwargs).backward()
        close(teacher.grad, exact.grad.float())
        assert (student.grad is not None) == needs_student


@pytest.mark.parametrize(
    "teacher_dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
@losses
def test_types_of_student_and_teacher(backend, case, dtype, teacher_dtype):
    """Computed in the type that holds both; the gradient comes in the student's."""
    student, teacher, kwargs = small_inputs(case)
    student, teacher = student.to(dtype), teacher.to(teacher_dtype)
    value, gradient = value_and_gradient(case.function, student, teacher, **kwargs)
    exact, slope = value_and_gradient(case.reference, student.double(), teacher.double(), **kwargs)
    double = torch.float64 in (dtype, teacher_dtype)
    assert value.dtype == (torch.float64 if double else torch.float32)
    assert gradient.dtype == dtype
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    unit = torch.finfo(dtype).eps
    torch.testing.assert_close(
        gradient.double(), slope, rtol=2 * unit, atol=unit * slope.abs().amax().item() + 1e-6
    )


@each
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradient(backend, case, mode):
    student, teacher, kwargs = small_inputs(case)
    expected = call(case.function, student, teacher, **kwargs)
    student.requires_grad_()
    with mode():
        value = call(case.function, student, teacher, **kwargs)
        made_inside = call(case.function, student.detach().clone(), teacher, **kwargs)
    assert not value.requires_grad and value.grad_fn is None
    torch.testing.assert_close(value, expected)
    assert torch.equal(value, made_inside)


def test_nothing_is_kept_without_gradient(backend):
    """No tensor is saved where no gradient is asked for."""
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        for case in CASES:
            student, teacher, kwargs = small_inputs(case)
            call(case.function, student, teacher, **kwargs)
    assert not saved


def test_checkpoint(backend):
    student, teacher, _ = small_inputs(LOSSES[0])
    student.requires_grad_()

    def loss(x):
        return kdops.kd_loss(x * 2, teacher)

    torch.utils.checkpoint.checkpoint(loss, student, use_reentrant=False).backward()
    expected = torch.autograd.grad(loss(student), student)[0]
    assert torch.equal(student.grad, expected)
