"""A map of one batch of features: a native op for the map, and one for its gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from .. import _checks
from ._dispatch import Scalars, gradient_graph, in_full_precision, native, second_order
from ._rows import accumulation_dtype


class Map:
    """One map: its public name, its two native ops, and its formula in the reference.

    forward(x, *scalars) and formula((x,), scalars) give the map, backward(upstream, x, *scalars)
    the gradient.
    """

    def __init__(
        self,
        name: str,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        formula: Callable[..., Any],
    ):
        self.name, self.forward, self.backward, self.formula = name, forward, backward, formula

    def __call__(self, x: Tensor, scalars: Scalars) -> Tensor:
        _checks.features(self.name, "x", x)
        if not native(self.name, x):
            return in_full_precision(self.formula, (x,), scalars)
        if x.requires_grad and torch.is_grad_enabled():
            return _NativeMap.apply(self, scalars, x)
        return self.forward(x, *scalars)


class _NativeMap(Function):
    @staticmethod
    def forward(ctx: Any, map_: Map, scalars: Scalars, x: Tensor) -> Tensor:
        ctx.map, ctx.scalars = map_, scalars
        ctx.save_for_backward(x)
        return map_.forward(x, *scalars)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        if second_order():
            (gradient,) = gradient_graph(ctx.map.formula, (x,), ctx.scalars, [True], upstream)
        else:
            gradient = ctx.map.backward(upstream, x, *ctx.scalars)
        return None, None, gradient


def map_output(x: Tensor, dimensions: int) -> Tensor:
    """A native map op's output without its values: (N, ..., N) in the accumulation type."""
    return x.new_empty((x.shape[0],) * dimensions, dtype=accumulation_dtype(x.dtype))
