"""What the losses share that are composed of PyTorch's operations, on every device."""

from torch import Tensor

from .. import _checks


def constant(teacher: Tensor, teacher_grad: bool) -> Tensor:
    """The teacher, without its graph unless a gradient is wanted."""
    return teacher if teacher_grad or not teacher.requires_grad else teacher.detach()


def same_batch(function: str, student: Tensor, teacher: Tensor) -> None:
    _checks.same_device(function, "teacher", teacher, student)
    if student.shape[0] != teacher.shape[0]:
        raise ValueError(
            f"{function}: student and teacher must have the same number of samples, "
            f"got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )


def same_shape(function: str, student: Tensor, teacher: Tensor) -> None:
    """Two tensors of samples, nothing is broadcast."""
    for name, x in (("student", student), ("teacher", teacher)):
        _checks.tensor(function, name, x)
        if x.dim() < 2:
            raise ValueError(
                f"{function}: {name} must be (N, C, ...) with at least two dimensions, "
                f"got shape {tuple(x.shape)}"
            )
    _checks.same_device(function, "teacher", teacher, student)
    if student.shape != teacher.shape:
        raise ValueError(
            f"{function}: teacher must have student's shape {tuple(student.shape)}, "
            f"got {tuple(teacher.shape)}"
        )
