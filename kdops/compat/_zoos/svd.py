"""SSKD_SVD: singular vectors of a layer, aligned with the teacher's, and how they change."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor


def singular(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first singular values of (N, rows, columns), over their length, and right vectors."""
    _, values, vectors = torch.linalg.svd(x, full_matrices=False)
    values, vectors = (torch.where(x.isfinite(), x, 0.0) for x in (values, vectors.mT))
    if count <= 0:
        return values, vectors
    return F.normalize(values[:, :count], dim=1), F.normalize(vectors[..., :count], dim=1)


def aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """For each of teacher's vectors student's nearest in angle, with the sign that turns it
    there.
    """
    cosine = student.mT @ teacher
    nearest = cosine.abs() == cosine.abs().amax(1, keepdim=True)
    return student @ torch.where(nearest, cosine.sign(), 0.0)


def affinity(vectors: Tensor, before: Tensor) -> Tensor:
    """(N, columns, columns before, k)"""
    return torch.exp(-(vectors[:, :, None] - before[:, None]).square() / 8)


def checked_matrices(function: str, student: Tensor, teacher: Tensor) -> None:
    if student.shape[2] != teacher.shape[2]:
        raise ValueError(
            f"{function}: the matrices of student and teacher must have as many columns, "
            f"got {student.shape[2]} and {teacher.shape[2]}"
        )


def changes(
    function: str,
    layers: Iterable[tuple[Tensor, Tensor]],
    k: int,
    as_matrices: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Of each layer but the first, over the samples; the teacher's values weigh both."""
    losses, before = [], None
    for pair in layers:
        ours, theirs = map(as_matrices, pair)
        checked_matrices(function, ours, theirs)
        values, v_teacher = singular(theirs, k)
        _, v_student = singular(ours, k + 3)
        weights = values[:, None]
        now = (aligned(v_student, v_teacher) * weights, v_teacher * weights)
        if before is not None:
            a, b = (affinity(*x) for x in zip(now, before, strict=True))
            error = (a - b.detach()).square()
            losses.append(torch.where(error.isfinite(), error, 0.0).sum() / len(ours))
        before = now
    return losses
