"""Losses between two maps of the same batch; one teacher may supervise several student layers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .maps import (
    correlation,
    max_normalised_squared_distances,
    mean_normalised_distances,
    rbf_correlation,
    triplet_angle,
)
from .numbers import accumulation, over, power_of_two
from .share import WHOLE, Share

Students = Tensor | Sequence[Tensor]


def huber(u: Tensor, v: Tensor) -> Tensor:
    return F.smooth_l1_loss(u, v, reduction="none")


def square(u: Tensor, v: Tensor) -> Tensor:
    return (u - v).square()


def relation(
    students: Students,
    teacher: Tensor,
    make_map: Callable[[Tensor], Tensor],
    compare: Callable[[Tensor, Tensor], Tensor],
    reduction: str,
    share: Share = WHOLE,
) -> Tensor:
    """Sum over the students of compare(map, teacher's map); 'mean' divides by its entries."""
    students = [students] if isinstance(students, Tensor) else students
    target = make_map(accumulation(teacher))
    value: Any = sum(compare(make_map(accumulation(student)), target) for student in students)
    if reduction == "none":
        return value
    total, entries = share.total(value), value.shape[-1] ** value.dim()
    return total / max(1, entries) if reduction == "mean" else total


def rkd_distance_loss(
    student: Students,
    teacher: Tensor,
    *,
    reduction: str = "mean",
    eps: float = 0.0,
    share: Share = WHOLE,
) -> Tensor:
    def make_map(x: Tensor) -> Tensor:
        return mean_normalised_distances(x, eps, share)

    return relation(student, teacher, make_map, huber, reduction, share)


def rkd_angle_loss(
    student: Students,
    teacher: Tensor,
    *,
    reduction: str = "mean",
    eps: float = 0.0,
    share: Share = WHOLE,
) -> Tensor:
    def at_vertices(some: Share) -> Tensor:
        def make_map(x: Tensor) -> Tensor:
            return triplet_angle(x, eps=eps, share=some)

        return relation(student, teacher, make_map, huber, reduction, some)

    return share.by_vertices(at_vertices)


def irg_edge_loss(
    student: Students, teacher: Tensor, *, reduction: str = "mean", share: Share = WHOLE
) -> Tensor:
    def make_map(x: Tensor) -> Tensor:
        return max_normalised_squared_distances(x, share)

    return relation(student, teacher, make_map, square, reduction, share)


def vertex_change(first: Tensor, second: Tensor, share: Share = WHOLE) -> Tensor:
    """|a_i - b_i|^2 over its maximum."""
    first, second = accumulation(first), accumulation(second)
    scale = power_of_two(torch.cat([first, second]))
    change = share.rows((first - second) * scale).square().sum(1)
    return over(change, share.largest(change)) if first.numel() else change


def edge_change(first: Tensor, second: Tensor, reduction: str, share: Share = WHOLE) -> Tensor:
    """Squared difference of the normalised edges of two layers."""
    edges = (max_normalised_squared_distances(accumulation(x), share) for x in (first, second))
    total = share.total(square(*edges))
    return total / max(1, len(first) ** 2) if reduction == "mean" else total


def irg_transform_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    *,
    part: str = "vertex",
    reduction: str = "mean",
    share: Share = WHOLE,
) -> Tensor:
    if part == "edge":
        return square(*(edge_change(*x, reduction, share) for x in (student, teacher)))
    total = share.total(square(*(vertex_change(*x, share) for x in (student, teacher))))
    return total / max(1, len(student[0])) if reduction == "mean" else total


def cckd_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    kernel: str = "rbf",
    gamma: float = 0.4,
    order: int | None = 2,
    normalize: bool = True,
    reduction: str = "mean",
    share: Share = WHOLE,
) -> Tensor:
    def make_map(x: Tensor) -> Tensor:
        if kernel == "rbf":
            return rbf_correlation(x, gamma=gamma, order=order, normalize=normalize, share=share)
        return correlation(x, kernel, normalize, share)

    return relation(student, teacher, make_map, square, reduction, share)
