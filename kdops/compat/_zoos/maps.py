"""Feature maps of a layer, as the zoos compare them."""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import _checks, functional
from ...functional._composed import same_batch
from ...functional._rows import widened


def checked(function: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    for name, x in (("student", student), ("teacher", teacher)):
        _checks.feature_maps(function, name, x)
    same_batch(function, student, teacher)
    return widened(student), widened(teacher)


def pairs(
    function: str, student: Iterable[Tensor], teacher: Iterable[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Of two lists of layers, up to the end of the shorter one."""
    return [checked(function, *pair) for pair in zip(student, teacher, strict=False)]


def same_height(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The higher map averaged to the lower's height, in width too: the zoos' maps are squares."""
    height = min(a.shape[2], b.shape[2])
    a, b = (x if x.shape[2] == height else F.adaptive_avg_pool2d(x, height) for x in (a, b))
    return a, b


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over all entries."""
    return 2 * functional.hint_loss(student, teacher, reduction="mean", teacher_grad=True)


def power_map(x: Tensor, p: float) -> Tensor:
    """(N, H W): the mean over channels of x^p, signed, over its length."""
    return F.normalize(x.pow(p).mean(1).flatten(1))


def attention(student: Tensor, teacher: Tensor, p: float) -> Tensor:
    student, teacher = same_height(student, teacher)
    if p % 2 == 0:
        return functional.at_loss(student, teacher, p=p, teacher_grad=True)
    return F.mse_loss(power_map(student, p), power_map(teacher, p))


def kernel_mean(a: Tensor, b: Tensor) -> Tensor:
    """Of <a_i, b_j>^2 over samples and pairs of channels."""
    return (a @ b.mT).square().mean()


def selectivity(student: Tensor, teacher: Tensor, *, constant: bool) -> Tensor:
    """Squared MMD of channels of length 1 under <x, y>^2; `constant` keeps the teacher's own term
    out of the gradient.
    """
    a, b = (F.normalize(x.flatten(2), dim=2) for x in same_height(student, teacher))
    own = b.detach() if constant else b
    return kernel_mean(own, own) + kernel_mean(a, a) - 2 * kernel_mean(a, b)


def boundaries(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Of each entry the squared hinge on the teacher's side of 0; the teacher has no gradient."""
    side = torch.where(teacher > 0, 1.0, -1.0)
    return (margin - side * student).clamp(min=0).square()


def overhaul(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """Of each entry (student - max(teacher, margin))^2, but 0 where both are inactive."""
    goal = torch.maximum(teacher, margin)
    return torch.where((student > goal) | (goal > 0), (student - goal).square(), 0.0)


def pyramid(
    error: Callable[[Tensor, Tensor], Tensor],
    student: Tensor,
    teacher: Tensor,
    sizes: Sequence[int] = (4, 2, 1),
) -> Tensor:
    """Errors of the maps and of their averages to k x k, weights 1, 1/2, 1/4, ... over their sum.

    A k that is not below the height is left out.
    """
    value = error(student, teacher)
    weight = total = 1.0
    for size in sizes:
        if size < student.shape[2]:
            ours, theirs = (F.adaptive_avg_pool2d(x, size) for x in (student, teacher))
            weight /= 2
            value = value + weight * error(ours, theirs)
            total += weight
    return value / total
