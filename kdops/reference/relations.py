"""Losses between two maps of the same batch; one teacher may supervise several student layers."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from .maps import (
    max_normalised_squared_distances,
    mean_normalised_distances,
    rbf_correlation,
    triplet_angle,
)
from .numbers import accumulation

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


def cckd_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    gamma: float = 0.4,
    order: int | None = 2,
    normalize: bool = True,
    reduction: str = "mean",
) -> Tensor:
    def make_map(x: Tensor) -> Tensor:
        return rbf_correlation(x, gamma=gamma, order=order, normalize=normalize)

    return relation(student, teacher, make_map, square, reduction)
