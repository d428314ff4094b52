"""Losses between feature maps of one layer: attention, flow between layers, hints."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from .numbers import TINY, accumulation, over, root


def reduced(value: Tensor, rows: int, reduction: str) -> Tensor:
    """'mean' over all entries, 'batchmean' over rows; of no entry 0."""
    if reduction == "none":
        return value
    count = {"sum": 1, "batchmean": rows, "mean": value.numel()}[reduction]
    return value.sum() / max(1, count)


def at_most(x: Tensor, size: torch.Size) -> Tensor:
    """Averages over cells of (N, C, H, W) where it is larger than size."""
    height, width = (min(a, b) for a, b in zip(x.shape[2:], size, strict=True))
    return x if x.shape[2:] == (height, width) else F.adaptive_avg_pool2d(x, (height, width))


class _MeanSquare(Function):
    """(N, H, W): the mean over channels of (x scale)^2; of what is large, x alone is kept."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor) -> Tensor:
        x = x * scale
        return x.mul_(x).mean(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        x, scale = ctx.saved_tensors
        return x * scale * (upstream[:, None] * scale * (2 / x.shape[1])), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        x, scale = ctx.saved_tensors
        return 2 * (x * scale * (tangent * scale)).mean(1)


def mean_power(x: Tensor, scale: Tensor, p: float) -> Tensor:
    """(N, H, W): the mean over channels of |x scale|^p."""
    if p == 2 and not torch.compiler.is_compiling():  # a compiler keeps nothing either
        value: Tensor = _MeanSquare.apply(x, scale)
        return value
    x = x * scale
    return (x.square() if p == 2 else x.abs().pow(p)).mean(1)


def attention(x: Tensor, p: float) -> Tensor:
    """(N, HW): the mean over channels of |x|^p, over its length; 0 where all is 0."""
    samples = x.detach().flatten(1)
    largest = torch.maximum(samples.amax(1), -samples.amin(1))
    scale = 1 / largest.clamp(TINY, 1 / TINY)[:, None, None, None]  # 1^p does not underflow
    a = mean_power(x, scale, p).flatten(1)
    return over(a, root(a.square().sum(1, keepdim=True)))


def at_loss(
    student: Tensor, teacher: Tensor, *, p: float = 2, squared: bool = True, reduction: str = "mean"
) -> Tensor:
    student, teacher = accumulation(student), accumulation(teacher)
    ours = at_most(student, teacher.shape[2:])
    difference = attention(ours, p) - attention(at_most(teacher, student.shape[2:]), p)
    value = difference.square()
    return reduced(value if squared else root(value.sum(1)), len(value), reduction)


def flow(first: Tensor, second: Tensor) -> Tensor:
    """(N, C1, C2): inner products of channels over positions, over their number."""
    first, second = accumulation(first), accumulation(second)
    a, b = at_most(first, second.shape[2:]), at_most(second, first.shape[2:])
    return a.flatten(2) @ b.flatten(2).mT / (a.shape[2] * a.shape[3])


def fsp_loss(
    student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], *, reduction: str = "mean"
) -> Tensor:
    value = (flow(*student) - flow(*teacher)).square()
    return reduced(value, len(value), reduction)


def hint_loss(student: Tensor, teacher: Tensor, *, reduction: str = "batchmean") -> Tensor:
    value = (accumulation(student) - accumulation(teacher)).square() / 2
    return reduced(value, len(value), reduction)


def vid_loss(
    student: Tensor, teacher: Tensor, variance: Tensor, *, reduction: str = "mean"
) -> Tensor:
    variance = accumulation(variance).reshape(-1, *[1] * (student.dim() - 2))
    error = (accumulation(student) - accumulation(teacher)).square()
    value = (error / variance + variance.log()) / 2
    return reduced(value, len(value), reduction)
