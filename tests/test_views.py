"""The layout of an input changes no bit of the result, and no bit of an input is changed."""

import pytest
import torch

from .cases import CASES, LOSSES, call, small_inputs
from .metrics import upstream, value_and_gradient


def offset(x):
    """Storage that starts one element later: vector loads are misaligned."""
    storage = x.new_empty(x.numel() + 1)
    storage[1:] = x.reshape(-1)
    return storage[1:].view(x.shape)


def negative(x):
    """A view with the neg bit: its storage has the other sign."""
    view = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert view.is_neg()
    return view


def padded(x):
    wide = x.new_full((len(x) + 2, x.shape[1] + 3), 1e6)
    wide[1:-1, 2:-1] = x
    return wide[1:-1, 2:-1]


def step(x, dimension):
    wide = x.repeat_interleave(2, dimension)
    return wide[::2] if dimension == 0 else wide[:, ::2]


def channels_last(x):
    image = x.reshape(*x.shape, 1, 1).expand(*x.shape, 2, 2)
    return image.contiguous(memory_format=torch.channels_last)[..., 0, 0]


LAYOUTS = {
    "transposed": lambda x: x.t().contiguous().t(),
    "step over rows": lambda x: step(x, 0),
    "step over columns": lambda x: step(x, 1),
    "flipped": lambda x: x.flip(0, 1).contiguous().flip(0, 1),
    "misaligned": offset,
    "inside a larger tensor": padded,
    "storage offset by a row": lambda x: torch.cat([x[:1], x])[1:],
    "neg bit": negative,
    "channels last": channels_last,
    "expanded": lambda x: x[:1].expand_as(x),
    "parameter": lambda x: torch.nn.Parameter(x.clone()),
    "gathered": lambda x: x[torch.arange(len(x))],
}


def same(backend, actual, expected):
    """Bitwise in a kernel; torch's own reductions take their sums in the order of the strides."""
    if backend == "native":
        assert torch.equal(actual, expected)
    else:
        torch.testing.assert_close(actual, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_layout(backend, case, layout, dtype):
    if layout == "neg bit" and dtype == torch.bfloat16:
        pytest.skip("complex tensors have no bfloat16")
    student, teacher, kwargs = small_inputs(case, dtype, shape=(6, 24))
    change = LAYOUTS[layout]
    views = (change(student), None if teacher is None else change(teacher))
    plain = tuple(None if x is None else x.detach().resolve_neg().contiguous() for x in views)
    weights = upstream if case.kind == "map" else torch.ones_like
    expected = value_and_gradient(case.function, *plain, weights, **kwargs)
    with torch.no_grad():
        same(backend, call(case.function, *views, **kwargs), expected[0])
    student = views[0].detach().requires_grad_()
    value = call(case.function, student, views[1], **kwargs)
    (gradient,) = torch.autograd.grad(value, student, weights(value.detach()))
    same(backend, value.detach(), expected[0])
    same(backend, gradient, expected[1])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_expanded_leaf_collects_its_gradient(backend, case):
    student, teacher, kwargs = small_inputs(case)
    leaf = student[:1].clone().requires_grad_()
    call(case.function, leaf.expand_as(student), teacher, **kwargs).sum().backward()
    _, each = value_and_gradient(case.function, student[:1].expand_as(student), teacher, **kwargs)
    torch.testing.assert_close(leaf.grad, each.sum(0, keepdim=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_inputs_are_unchanged(backend, case):
    student, teacher, kwargs = small_inputs(case)
    inputs = [x for x in (student.requires_grad_(), teacher, kwargs.get("target")) if x is not None]
    before = [(x.detach().clone(), x._version) for x in inputs]
    value = call(case.function, student, teacher, **kwargs)
    value.backward(torch.ones_like(value), retain_graph=True)
    value.backward(torch.ones_like(value))
    for x, (old, version) in zip(inputs, before, strict=True):
        assert torch.equal(x, old) and x._version == version


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)
def test_student_and_teacher_may_share_storage(backend, case):
    student, teacher, kwargs = small_inputs(case)
    both = torch.stack([student, teacher], 1)
    shared = value_and_gradient(case.function, both[:, 0], both[:, 1], **kwargs)
    apart = value_and_gradient(case.function, student, teacher, **kwargs)
    same(backend, shared[0], apart[0])
    same(backend, shared[1], apart[1])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_change_before_the_backward(backend, case):
    """An error or the gradient of what the forward saw, never a wrong gradient."""
    student, teacher, kwargs = small_inputs(case)
    weights = upstream if case.kind == "map" else torch.ones_like
    _, expected = value_and_gradient(case.function, student, teacher, weights, **kwargs)
    moved = student.requires_grad_() * 1
    value = call(case.function, moved, teacher, **kwargs)
    with torch.no_grad():
        moved.add_(torch.arange(moved.shape[1]))
    try:
        (gradient,) = torch.autograd.grad(value, student, weights(value.detach()))
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        assert backend == "reference" and torch.equal(gradient, expected)
