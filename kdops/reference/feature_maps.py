"""Losses between feature maps of one layer: attention, flow between layers, hints."""

import torch
import torch.nn.functional as F
from torch import Tensor

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


def attention(x: Tensor, p: float) -> Tensor:
    """(N, HW): the mean over channels of |x|^p, over its length; 0 where all is 0."""
    largest = x.detach().abs().amax((1, 2, 3), keepdim=True)
    x = x / largest.clamp(min=TINY)  # 1^p does not underflow
    power = x.square() if p == 2 else x.abs().pow(p)
    a = power.mean(1).flatten(1)
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
