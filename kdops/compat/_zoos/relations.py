"""Relations of one batch's features, as the zoos have them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import _checks, functional

EPS = 1e-12  # of squared distances, and of lengths in F.normalize


def rows(function: str, name: str, x: Tensor) -> Tensor:
    """(N, D), whatever follows the samples."""
    _checks.tensor(function, name, x)
    return x.flatten(1) if x.dim() > 1 else x.reshape(-1, 1)


def both_rows(function: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    return rows(function, "student", student), rows(function, "teacher", teacher)


def squared_distances(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Huber distance of squared distances, each map over its own mean."""

    def edges(x: Tensor) -> Tensor:
        return functional.pairwise_distance(x, squared=True, normalize="mean", eps=eps)

    with torch.no_grad():
        target = edges(teacher)
    return F.smooth_l1_loss(edges(student), target)


def rkd(
    student: Tensor,
    teacher: Tensor,
    distance_weight: float,
    angle_weight: float,
    *,
    eps: float = EPS,
    squared: bool = False,
    teacher_grad: bool = False,
) -> Tensor:
    """The weighted sum of both losses; squared distances leave the teacher without gradient."""
    if squared:
        distance = squared_distances(student, teacher, eps)
    else:
        distance = functional.rkd_distance_loss(
            student, teacher, eps=eps, teacher_grad=teacher_grad
        )
    angle = functional.rkd_angle_loss(student, teacher, eps=EPS, teacher_grad=teacher_grad)
    return distance_weight * distance + angle_weight * angle


def pkt(student: Tensor, teacher: Tensor, eps: float) -> Tensor:
    """Over N^2, with eps in the lengths and in the logarithm."""
    return functional.pkt_loss(student, teacher, reduction="mean", eps=eps, teacher_grad=True)


def similarity(function: str, student: Tensor, teacher: Tensor) -> Tensor:
    return functional.sp_loss(*both_rows(function, student, teacher), teacher_grad=True)
