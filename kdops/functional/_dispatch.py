"""From checked arguments to a value with a gradient: the native op, or the reference.

A native loss computes its gradient in the forward pass; backward only scales it. Every step of
Python here is paid on each call, which is why nothing is looked up twice.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn import Parameter

from .. import _native
from .._backend import choice

Tensors = tuple[Any, ...]  # None for one that is not given
Scalars = tuple[Any, ...]  # a loss's options, in an order of its own

_PLAIN = (Tensor, Parameter)
_grad_enabled = torch.is_grad_enabled
_compiling = torch.compiler.is_compiling
_exporting = torch.compiler.is_exporting

# Private names, each fetched once, each with the safe answer where a torch version lacks it.
_functorch_active = getattr(
    torch._C._functorch,
    "_are_functorch_transforms_active",
    lambda: torch._C._functorch.maybe_current_level() is not None,
)
_keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
_raw_apply = vars(torch._C._FunctionBase).get("apply")  # Function.apply without its Python layer


def _dual_active() -> bool:
    """Whether forward-mode AD is on: a custom op would lose the tangent silently."""
    return getattr(forward_ad, "_current_level", 0) >= 0


def eager_apply(function: type[Function]) -> Callable[..., Any]:
    """function.apply for plain tensors outside transforms and torch.compile."""
    return function.apply if _raw_apply is None else _raw_apply.__get__(None, function)


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


def native(function: str, *tensors: Tensor) -> bool:
    """Whether the kernels serve this call; transforms, subclasses, export are the reference's."""
    if choice.name == "reference":
        return False
    device = tensors[0].device.type
    if _compiling():
        return not _exporting() and device in _native.loaded
    if _functorch_active() or _dual_active():
        return False
    for x in tensors:
        if type(x) not in _PLAIN:
            return False
    return device in _native.loaded or _without_library(function, device)


def in_full_precision(formula: Callable[..., Any], tensors: Tensors, scalars: Scalars) -> Any:
    """formula(tensors, scalars) outside autocast, which would round its products."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return formula(tensors, scalars)
    with torch.autocast(device, enabled=False):
        return formula(tensors, scalars)


def second_order() -> bool:
    """Inside a backward: whether it is itself differentiated (create_graph=True)."""
    return _grad_enabled() and not _compiling()


def gradient_graph(
    formula: Callable[..., Any],
    tensors: Tensors,
    scalars: Scalars,
    needs: Sequence[bool],
    upstream: Tensor,
) -> list[Tensor | None]:
    """The gradients of the tensors that need one, as differentiable functions of all of them."""
    with torch.enable_grad():
        value = in_full_precision(formula, tensors, scalars)
        inputs = [x for x, need in zip(tensors, needs, strict=True) if need]
        found = iter(torch.autograd.grad(value, inputs, upstream, create_graph=True))
    return [next(found) if need else None for need in needs]


# Multiplies a CUDA gradient in place by what lies on the GPU: a scalar, or one value a row.
_scale = _native.define("_scale_(Tensor(a!) gradient, Tensor upstream) -> ()", lambda *_: None)
_scaled_by_op = {"cuda"}


def _product(gradient: Tensor, upstream: Tensor) -> Tensor:
    """In the upstream's type, the one of the value, so that it is rounded once."""
    upstream = upstream.unsqueeze(-1) if upstream.dim() else upstream  # one value a row
    return (gradient.to(upstream.dtype) * upstream).to(gradient.dtype)


def _scaled(gradient: Tensor, upstream: Tensor) -> Tensor:
    """The saved gradient times upstream: in place when the graph is freed, so nothing is copied."""
    if _compiling() or _keeps_graph():  # what is kept must not be what is handed out
        return _product(gradient, upstream)
    try:
        if gradient.device.type in _scaled_by_op:
            _scale(gradient, upstream)
            return gradient
        if upstream.dim():
            return gradient.mul_(upstream.unsqueeze(-1))
        return gradient if upstream.item() == 1 else gradient.mul_(upstream)
    except RuntimeError:  # a batched upstream (is_grads_batched) cannot be read or taken in place
        return _product(gradient, upstream)


class RowLoss:
    """A loss of rows of logits: op and formula are called with (student, teacher, ...), scalars.

    The op also takes whether the student's gradient is wanted; it returns the value and that. The
    teacher's gradient is composed in backward: teacher_gradient(tensors, scalars, upstream).
    """

    def __init__(
        self,
        name: str,
        op: Callable[..., Any],
        formula: Callable[..., Any],
        teacher_gradient: Callable[..., Tensor],
    ):
        self.name, self.op, self.formula = name, op, formula
        self.teacher_gradient = teacher_gradient

    def __call__(self, tensors: Tensors, scalars: Scalars) -> Tensor:
        student, teacher = tensors[0], tensors[1]
        if not native(self.name, student, teacher):
            return in_full_precision(self.formula, tensors, scalars)
        if not (_grad_enabled() and (student.requires_grad or teacher.requires_grad)):
            return self.op(tensors, scalars, False)[0]
        apply = _NativeRows.apply if _compiling() else _apply_rows
        return apply(self, scalars, *tensors)


class _NativeRows(Function):
    @staticmethod
    def forward(ctx: Any, loss: Any, scalars: Scalars, *tensors: Tensor) -> Tensor:
        value, gradient = loss.op(tensors, scalars, ctx.needs_input_grad[2])
        ctx.call = loss, scalars
        ctx.save_for_backward(gradient, *tensors)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        needs, (loss, scalars) = ctx.needs_input_grad[2:], ctx.call
        gradient, *tensors = ctx.saved_tensors
        if second_order():
            found = gradient_graph(loss.formula, tuple(tensors), scalars, needs, upstream)
            return None, None, *found
        ours = _scaled(gradient, upstream) if needs[0] else None
        theirs = loss.teacher_gradient(tensors, scalars, upstream) if needs[1] else None
        return None, None, ours, theirs, *(None,) * (len(needs) - 2)


_apply_rows = eager_apply(_NativeRows)


class RelationLoss:
    """A loss of maps: op and formula are called with (*students, teacher), scalars.

    The op also takes whether the students' and the teacher's gradients are wanted, and returns the
    value followed by these. `maps`, if there are, are a native map of (x, *scalars) and the
    comparison of two: the unreduced loss.
    """

    def __init__(
        self,
        name: str,
        op: Callable[..., Any],
        formula: Callable[..., Any],
        maps: tuple[Callable[..., Tensor], Callable[..., Tensor]] | None = None,
    ):
        self.name, self.op, self.formula, self.maps = name, op, formula, maps

    def __call__(self, tensors: Tensors, scalars: Scalars, served: bool = True) -> Tensor:
        """The loss of checked tensors; `served` is false for what the kernel has not."""
        if not (served and native(self.name, *tensors)):
            return in_full_precision(self.formula, tensors, scalars)
        if not (_grad_enabled() and any([x.requires_grad for x in tensors])):
            return self.op(tensors, scalars, False, False)[0]
        apply = _NativeRelation.apply if _compiling() else _apply_relation
        return apply(self, scalars, *tensors)


class _NativeRelation(Function):
    @staticmethod
    def forward(ctx: Any, loss: Any, scalars: Scalars, *tensors: Tensor) -> Tensor:
        *students, teacher = ctx.needs_input_grad[2:]
        value, *gradients = loss.op(tensors, scalars, True in students, teacher)
        ctx.call = loss, scalars
        ctx.save_for_backward(*tensors, *gradients)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        needs, saved = ctx.needs_input_grad[2:], ctx.saved_tensors
        count = len(needs)
        if second_order():
            loss, scalars = ctx.call
            found = gradient_graph(loss.formula, saved[:count], scalars, needs, upstream)
            return None, None, *found
        gradients = [_scaled(gradient, upstream) for gradient in saved[count:]]
        missing = (None,) * (count - len(gradients))  # all students', or the teacher's
        if needs[-1]:
            return None, None, *missing, *gradients
        return None, None, *gradients, *missing


_apply_relation = eager_apply(_NativeRelation)
