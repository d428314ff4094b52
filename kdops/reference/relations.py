"""Losses between two maps of the same batch; one teacher may supervise several student layers."""

from collections.abc import Callable, Sequence

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

Students = Tensor | Sequence[Tensor]


def huber(u: Tensor, v: Tensor) -> Tensor:
    return F.smooth_l1_loss(u, v, reduction="none")


def square(u: Tensor, v: Tensor) -> Tensor:
    return (u - v).square()


def relation(
    students: Students, teacher: Tensor, make_map: Callable, compare: Callable, reduction: str
) -> Tensor:
    """Sum over the students of compare(map, teacher's map); 'mean' divides by its entries."""
    students = [students] if isinstance(students, Tensor) else students
    target = make_map(accumulation(teacher))
    value = sum(compare(make_map(accumulation(student)), target) for student in students)
    if reduction == "none":
        return value
    total = value.sum()
    return total / max(1, value.numel()) if reduction == "mean" else total


def rkd_distance_loss(
    student: Students, teacher: Tensor, *, reduction: str = "mean", eps: float = 0.0
) -> Tensor:
    def make_map(x: Tensor) -> Tensor:
        return mean_normalised_distances(x, eps)

    return relation(student, teacher, make_map, huber, reduction)


def rkd_angle_loss(
    student: Students, teacher: Tensor, *, reduction: str = "mean", eps: float = 0.0
) -> Tensor:
    def make_map(x: Tensor) -> Tensor:
        return triplet_angle(x, eps=eps)

    return relation(student, teacher, make_map, huber, reduction)


def irg_edge_loss(student: Students, teacher: Tensor, *, reduction: str = "mean") -> Tensor:
    return relation(student, teacher, max_normalised_squared_distances, square, reduction)


def vertex_change(first: Tensor, second: Tensor) -> Tensor:
    """|a_i - b_i|^2 over its maximum."""
    first, second = accumulation(first), accumulation(second)
    scale = power_of_two(torch.cat([first, second]))
    change = ((first - second) * scale).square().sum(1)
    return over(change, change.amax()) if change.numel() else change


def edge_change(first: Tensor, second: Tensor, reduction: str) -> Tensor:
    """Squared difference of the normalised edges of two layers."""
    edges = (max_normalised_squared_distances(accumulation(x)) for x in (first, second))
    total = square(*edges).sum()
    return total / max(1, len(first) ** 2) if reduction == "mean" else total


def irg_transform_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    *,
    part: str = "vertex",
    reduction: str = "mean",
) -> Tensor:
    if part == "edge":
        return square(edge_change(*student, reduction), edge_change(*teacher, reduction))
    total = square(vertex_change(*student), vertex_change(*teacher)).sum()
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
) -> Tensor:
    def make_map(x: Tensor) -> Tensor:
        if kernel == "rbf":
            return rbf_correlation(x, gamma=gamma, order=order, normalize=normalize)
        return correlation(x, kernel, normalize)

    return relation(student, teacher, make_map, square, reduction)
