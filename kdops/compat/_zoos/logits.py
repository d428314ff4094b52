"""Soft targets with the classes in dimension 1, as the zoos have them."""

from torch import Tensor

from ... import functional
from ...functional._composed import same_shape


def soft_targets(
    function: str,
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    *,
    per_position: bool = False,
    scale_t2: bool = True,
) -> Tensor:
    """T^2 sum p (log p - log q) of (N, C, ...) logits, over N, or over N times their positions."""
    same_shape(function, student, teacher)
    student, teacher = student.movedim(1, -1), teacher.movedim(1, -1)
    value = functional.kd_loss(
        student,
        teacher,
        temperature=temperature,
        reduction="batchmean" if per_position else "sum",
        scale_t2=scale_t2,
        teacher_grad=True,
    )
    return value if per_position else value / max(1, len(student))
