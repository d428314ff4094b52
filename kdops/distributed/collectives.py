"""Collectives with their adjoints: a gradient is the one of the sum over ranks of their values."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


class _Total(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group = group
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        return _Total.apply(upstream, ctx.group), None


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int], dtype: torch.dtype, group: Any) -> Tensor:
        rank = dist.get_rank(group)
        ctx.call = sum(counts[:rank]), counts[rank], x.dtype, group
        padded = x.new_zeros(max(counts), x.shape[1])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded, group=group)
        parts = [part[:count] for part, count in zip(parts, counts, strict=True)]
        return torch.cat(parts).to(dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Any, ...]:
        start, rows, dtype, group = ctx.call
        gradient = _Total.apply(upstream, group)  # gloo has no reduce-scatter of uneven parts
        return gradient.narrow(0, start, rows).to(dtype), None, None, None


def total(x: Tensor, group: Any) -> Tensor:
    """The sum over ranks, on every rank."""
    return _Total.apply(x, group)


def gather(x: Tensor, counts: list[int], dtype: torch.dtype, group: Any) -> Tensor:
    """The rows of all ranks, counts[r] of rank r: sent as they are, then brought to dtype, in which
    the gradient is summed over ranks and rounded once.
    """
    return _Gather.apply(x, counts, dtype, group)


def maximum(x: Tensor, group: Any) -> Tensor:
    """The elementwise maximum over ranks, without gradient."""
    x = x.detach().clone()
    dist.all_reduce(x, dist.ReduceOp.MAX, group=group)
    return x
