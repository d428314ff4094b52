"""From checked arguments to a value with a gradient: the native op, or the reference.

A native loss computes its gradient in the forward pass; backward only scales it. Every step of
Python here is paid on each call, which is why nothing is looked up twice.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

from .. import _native
from .._backend import choice

_PLAIN = (Tensor, Parameter)
_grad_enabled = torch.is_grad_enabled
_compiling = torch.compiler.is_compiling
_exporting = torch.compiler.is_exporting

# Private names, each fetched once, each with the safe answer where a torch version lacks it.
_functorch_active = getattr(torch._C._functorch, "_are_functorch_transforms_active", None)
if _functorch_active is None:  # then every call pays for the public way

    def _functorch_active() -> bool:
        return torch._C._functorch.maybe_current_level() is not None


_keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


def _dual_active() -> bool:
    """Whether forward-mode AD is on: a custom op would lose the tangent silently."""
    return getattr(forward_ad, "_current_level", 0) >= 0


_warned = False


def _without_library(function: str, device: str) -> bool:
    """The answer of `native` for a device without kernels."""
    global _warned
    reason = _native.errors.get(device, "there are no kernels for this device")
    if choice.name == "native":
        raise RuntimeError(
            f"{function}: backend 'native' is chosen and kdops has no {device} library: {reason}. "
            "Build it with: pip install --no-build-isolation ."
        )
    if device in _native.errors and not _warned and not _compiling():
        _warned = True
        warnings.warn(
            f"kdops runs {device} tensors on its PyTorch reference, which is slower: {reason}",
            stacklevel=4,
        )
    return False


def native(function: str, *tensors: Tensor | None) -> bool:
    """Whether the kernels serve this call; transforms, subclasses, export are the reference's."""
    if choice.name == "reference":
        return False
    device = tensors[0].device.type
    if _compiling():
        return not _exporting() and device in _native.loaded
    if _functorch_active() or _dual_active():
        return False
    for x in tensors:
        if x is not None and type(x) not in _PLAIN:
            return False
    return device in _native.loaded or _without_library(function, device)


def in_full_precision(formula: Callable, tensors: tuple, scalars: tuple) -> Tensor:
    """formula(tensors, scalars) outside autocast, which would round its products."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return formula(tensors, scalars)
    with torch.autocast(device, enabled=False):
        return formula(tensors, scalars)


class Loss:
    """One loss: its public name, its native op, and its formula in the reference.

    Both are called with (tensors, scalars). The op also takes whether the gradient of the students
    and of the teacher are wanted, and returns the value followed by these gradients.
    """

    def __init__(self, name: str, op: Callable, formula: Callable):
        self.name, self.op, self.formula = name, op, formula

    def __call__(self, tensors: tuple, scalars: tuple, served: bool = True) -> Tensor:
        """The loss of checked tensors; `served` is false for a gradient that the kernel has not."""
        if not (served and native(self.name, *tensors)):
            return in_full_precision(self.formula, tensors, scalars)
        if _grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
            return _NativeLoss.apply(self, scalars, *tensors)
        return self.op(tensors, scalars, False, False)[0]


def _differentiable(x: Tensor | None) -> bool:
    return x is not None and x.is_floating_point()


def second_order() -> bool:
    """Inside a backward: whether it is itself differentiated (create_graph=True)."""
    return _grad_enabled() and not _compiling()


def _second_order(ctx, tensors: tuple, upstream: Tensor) -> tuple:
    """The gradient as a differentiable function of the inputs, through the reference."""
    wanted = [i for i in ctx.slots if ctx.needs_input_grad[2 + i]]
    with torch.enable_grad():
        value = in_full_precision(ctx.loss.formula, tensors, ctx.scalars)
        gradients = torch.autograd.grad(
            value, [tensors[i] for i in wanted], upstream, create_graph=True
        )
    return tuple(zip(wanted, gradients, strict=True))


def _placed(ctx, gradients) -> tuple:
    placed = [None] * (2 + ctx.count)
    for slot, gradient in gradients:
        if ctx.needs_input_grad[2 + slot]:
            placed[2 + slot] = gradient
    return tuple(placed)


def _product(gradient: Tensor, upstream: Tensor) -> Tensor:
    return (gradient * upstream).to(gradient.dtype)


def _scaled(gradient: Tensor, upstream: Tensor) -> Tensor:
    """The saved gradient times upstream: in place when the graph is freed, so nothing is copied."""
    if _compiling() or _keeps_graph():  # what is kept must not be what is handed out
        return _product(gradient, upstream)
    try:
        return gradient.mul_(upstream)
    except RuntimeError:  # a batched upstream (is_grads_batched) cannot be taken in place
        return _product(gradient, upstream)


class _NativeLoss(Function):
    @staticmethod
    def forward(ctx, loss, scalars, *tensors):
        """Value and gradients in one pass; the teacher is the last differentiable input."""
        needs = ctx.needs_input_grad[2:]
        *students, teacher = [i for i, x in enumerate(tensors) if _differentiable(x)]
        student_grad, teacher_grad = any(needs[i] for i in students), needs[teacher]
        value, *gradients = loss.op(tensors, scalars, student_grad, teacher_grad)
        ctx.loss, ctx.scalars, ctx.count = loss, scalars, len(tensors)
        ctx.slots = (students if student_grad else []) + ([teacher] if teacher_grad else [])
        ctx.save_for_backward(*tensors, *gradients)
        return value

    @staticmethod
    def backward(ctx, upstream):
        saved = ctx.saved_tensors
        tensors, gradients = saved[: ctx.count], saved[ctx.count :]
        if second_order():
            return _placed(ctx, _second_order(ctx, tensors, upstream))
        upstream = upstream.unsqueeze(-1) if upstream.dim() else upstream  # one value a row
        gradients = [_scaled(gradient, upstream) for gradient in gradients]
        return _placed(ctx, zip(ctx.slots, gradients, strict=True))
