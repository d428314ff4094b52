"""What the losses of K peers share: their checks, and a gradient for those that ask for one."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from .. import _checks
from . import _dispatch
from ._dispatch import (
    Scalars,
    Tensors,
    _compiling,
    _keeps_graph,
    eager_apply,
    in_full_precision,
    native,
    second_order,
)
from ._rows import REDUCTIONS, accumulation_dtype, same_dtype

MOST_PEERS = 16  # of the kernels
Peers = Tensor | Sequence[Tensor]


class Batch(NamedTuple):
    """K peers' logits: one stacked tensor, or K of them, of one type."""

    tensors: tuple[Tensor, ...]
    stacked: bool

    @property
    def count(self) -> int:  # type: ignore[override]  # of peers; a tuple's counts values
        return len(self.tensors[0]) if self.stacked else len(self.tensors)

    @property
    def lead(self) -> tuple[int, ...]:
        """The shape of the rows."""
        return tuple(self.tensors[0].shape[self.stacked : -1])

    @property
    def first(self) -> Tensor:
        return self.tensors[0][0] if self.stacked else self.tensors[0]


def as_batch(function: str, logits: Peers) -> Batch:
    """Checked: a (K, ..., C) tensor, or K >= 1 tensors (..., C) of one shape and device."""
    stacked = isinstance(logits, Tensor)
    if not (stacked or isinstance(logits, Sequence)):
        raise TypeError(
            f"{function}: logits must be a tensor or a sequence of tensors, "
            f"got {type(logits).__name__}"
        )
    tensors = (logits,) if stacked else tuple(logits)
    shape = "(K, ..., C)" if stacked else "(..., C)"
    if not tensors:
        raise ValueError(f"{function}: logits must hold at least one peer's, got none")
    for x in tensors:
        _checks.tensor(function, "logits", x)
        if x.device != tensors[0].device:
            raise RuntimeError(
                f"{function}: all peers' logits must be on one device, "
                f"got {tensors[0].device} and {x.device}"
            )
        if x.dim() < 2 + stacked:
            raise ValueError(
                f"{function}: logits must be {shape} with at least {2 + stacked} dimensions, "
                f"got shape {tuple(x.shape)}"
            )
        if x.shape != tensors[0].shape:
            raise ValueError(
                f"{function}: all peers' logits must have one shape, "
                f"got {tuple(tensors[0].shape)} and {tuple(x.shape)}"
            )
    if 0 in (tensors[0].shape[-1], len(tensors[0]) if stacked else 1):
        raise ValueError(
            f"{function}: logits must be {shape} with K >= 1 and C >= 1, "
            f"got shape {tuple(tensors[0].shape)}"
        )
    return Batch(same_dtype(*tensors), stacked)


def check_rows(
    function: str, batch: Batch, target: Tensor | None, labels: bool, ignore_index: int
) -> None:
    """The target's type and shape; `labels`: whether the loss cannot do without."""
    _checks.integer(function, "ignore_index", ignore_index, low=-torch.inf)
    if target is not None:
        _checks.target(function, target, batch.first)
    elif labels:
        raise ValueError(f"{function}: target must be given for its labels, got None")


def per_peer(function: str, name: str, value: float | Sequence[float], count: int) -> list[float]:
    """A number for every peer, from one for all or K of them."""
    if not isinstance(value, Sequence):
        return [_checks.number(function, name, value)] * count
    if len(value) != count:
        raise ValueError(
            f"{function}: {name} must be a number or {count} of them, one a peer, got {len(value)}"
        )
    return [_checks.number(function, f"{name}[{i}]", x) for i, x in enumerate(value)]


_warned = False


def warn_alone(function: str) -> None:
    """Once a process: a single peer has nobody to learn from."""
    global _warned
    if not (_warned or torch.compiler.is_compiling()):
        _warned = True
        warnings.warn(f"{function}: one peer alone has no soft targets, which are 0", stacklevel=3)


def peer_outputs(
    batch: Batch,
    weights: Tensor | None,
    reduction: int,
    wanted: int,
    terms: int,
    per_peer: bool,
) -> list[Tensor]:
    """The native ops' outputs without their values: the losses, their terms, the gradients of the
    tensors whose bit is set in `wanted`; the weights' bit is the one above the last of the logits.
    """
    first = batch.tensors[0]
    dtype = accumulation_dtype(first.dtype)
    rows = batch.lead if reduction == REDUCTIONS["none"] else ()
    outputs = [
        first.new_empty((batch.count, *rows) if per_peer else rows, dtype=dtype),
        first.new_empty((terms, *rows), dtype=dtype),
    ]
    tensors = (*batch.tensors, weights)
    return outputs + [
        x.new_empty(x.shape) for i, x in enumerate(tensors) if x is not None and wanted >> i & 1
    ]


class PeerLoss:
    """A loss of peers: op and formula are called with (batch, weights, target, scalars) and give
    the value and its terms; the op also takes the bits of the tensors that want a gradient, and
    these follow. `per_peer`: the value has a loss for each.
    """

    def __init__(
        self, name: str, op: Callable[..., Any], formula: Callable[..., Any], per_peer: bool
    ):
        self.name, self.op, self.formula, self.per_peer = name, op, formula, per_peer

    def __call__(
        self,
        batch: Batch,
        weights: Tensor | None,
        target: Tensor | None,
        scalars: Scalars,
        reads: int | None,
        served: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """The loss of checked arguments; `reads`: ignore_index where the labels are read; `served`
        is false for what the kernel has not."""
        try:
            return self._value(batch, weights, target, scalars, served)
        except (RuntimeError, IndexError):
            if not (reads is None or target is None or _compiling()):
                _checks.label_range(self.name, target, batch.tensors[0].shape[-1], reads)
            raise

    def _value(
        self,
        batch: Batch,
        weights: Tensor | None,
        target: Tensor | None,
        scalars: Scalars,
        served: bool,
    ) -> tuple[Tensor, Tensor]:
        tensors = (*batch.tensors, weights, target)
        if not (served and batch.count <= MOST_PEERS and native(self.name, *batch.tensors)):
            return in_full_precision(_formula, tensors, (self, batch.stacked, scalars))
        grads = torch.is_grad_enabled()
        if not (grads and any([x is not None and x.requires_grad for x in tensors])):
            value, terms, *_ = self.op(batch, weights, target, scalars, 0)
            return value, terms
        apply = _NativePeers.apply if _compiling() else _apply_peers
        return apply(self, batch.stacked, scalars, *tensors)


def _formula(tensors: Tensors, scalars: Scalars) -> tuple[Tensor, Tensor]:
    *logits, weights, target = tensors
    loss, stacked, scalars = scalars
    return loss.formula(Batch(tuple(logits), stacked), weights, target, scalars)


class _NativePeers(Function):
    @staticmethod
    def forward(
        ctx: Any, loss: PeerLoss, stacked: bool, scalars: Scalars, *tensors: Any
    ) -> tuple[Tensor, Tensor]:
        *logits, weights, target = tensors
        wanted = sum(1 << i for i, need in enumerate(ctx.needs_input_grad[3:]) if need)
        batch = Batch(tuple(logits), stacked)
        value, terms, *gradients = loss.op(batch, weights, target, scalars, wanted)
        ctx.mark_non_differentiable(terms)
        ctx.set_materialize_grads(False)  # or backward gets zeros for the terms
        ctx.call = loss, stacked, scalars
        ctx.save_for_backward(*tensors, *gradients)
        return value, terms

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, _: object) -> tuple[Any, ...]:
        needs, saved = ctx.needs_input_grad[3:], ctx.saved_tensors
        if upstream is None:
            return (None,) * (3 + len(needs))
        tensors, gradients = saved[: len(needs)], saved[len(needs) :]
        if second_order():

            def value(tensors: Tensors, scalars: Scalars) -> Tensor:
                return _formula(tensors, scalars)[0]

            found = _dispatch.gradient_graph(value, tensors, ctx.call, needs, upstream)
            return None, None, None, *found
        if _is_ones(upstream) and not _keeps_graph():  # nothing is multiplied, nothing copied
            found = gradients
        else:
            wanted = [i for i, need in enumerate(needs) if need]
            found = [
                _scaled(ctx.call, gradient, tensors, i, upstream)
                for i, gradient in zip(wanted, gradients, strict=True)
            ]
        found = iter(found)
        return None, None, None, *[next(found) if need else None for need in needs]


_apply_peers = eager_apply(_NativePeers)


def _scaled(
    call: tuple[Any, ...], gradient: Tensor, tensors: Tensors, i: int, upstream: Tensor
) -> Tensor:
    """The saved gradient of the i-th tensor times its part of upstream."""
    loss, stacked, _ = call
    if i == len(tensors) - 2:  # of the weights: one value for all, or one a row of (A, K)
        flat = gradient.flatten(-2) if upstream.dim() else gradient
        return _dispatch._scaled(flat, upstream).view_as(gradient)
    if loss.per_peer and not stacked:
        return _dispatch._scaled(gradient, upstream[i])
    if stacked and (loss.per_peer or upstream.dim()):
        missing = gradient.dim() - 1 - upstream.dim()
        each = upstream[(..., *(None,) * missing)] if loss.per_peer else upstream
        upstream = each.expand(gradient.shape[:-1])
    return _dispatch._scaled(gradient, upstream)


def _is_ones(upstream: Tensor) -> bool:
    """Whether nothing is to be multiplied; no GPU is asked, for it would be waited for."""
    if _compiling() or upstream.is_cuda or upstream.dim() > 1 or upstream.numel() > MOST_PEERS:
        return False
    try:
        values: Any = upstream.tolist()
    except RuntimeError:  # a batched upstream (is_grads_batched) has no values to read
        return False
    return values == 1 or values == [1.0] * upstream.numel()
