"""Variational information distillation: the teacher's layer as a Gaussian given the student's."""

from torch import Tensor

from .. import _checks, reference
from ._composed import constant, same_shape
from ._rows import same_dtype

REDUCTIONS = ("mean", "batchmean", "sum", "none")


def vid_loss(
    student: Tensor,
    teacher: Tensor,
    variance: Tensor,
    *,
    reduction: str = "mean",
    teacher_grad: bool = False,
) -> Tensor:
    """Negative log-likelihood of the teacher's layer, without its constant.

        mean 1/2 ((teacher - student)^2 / variance_c + log variance_c)

    `kdops.nn.VIDLoss` has the regressor and the variances as parameters.

    Args:
        student: (N, C, ...) prediction of the teacher's layer; float32, float64, bfloat16 or
            float16.
        teacher: the same shape; another float type is promoted, nothing is broadcast.
        variance: (C,), > 0; what is not gives NaN.
        reduction: 'mean' over all entries, as published code does; 'batchmean' over samples; 'sum';
            'none' gives student's shape.
        teacher_grad: whether the teacher gets its gradient too.
    Returns:
        A scalar, student's shape for 'none'; float32, float64 for float64 inputs. No entry: 0.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
        RuntimeError: for tensors on two devices.
    Gradient:
        To student and variance, and to teacher with teacher_grad; twice differentiable.
    Source: Ahn, Hu, Damianou, Lawrence, Dai, 2019, "Variational Information Distillation for
        Knowledge Transfer", section 2.2, equation 5.

    >>> student = torch.randn(8, 16, 7, 7, requires_grad=True)
    >>> vid_loss(student, torch.randn(8, 16, 7, 7), torch.full((16,), 5.0)).backward()
    """
    same_shape("vid_loss", student, teacher)
    _checks.tensor("vid_loss", "variance", variance)
    _checks.same_device("vid_loss", "variance", variance, student)
    if variance.shape != student.shape[1:2]:
        raise ValueError(
            f"vid_loss: variance must have shape ({student.shape[1]},), one a channel of student, "
            f"got {tuple(variance.shape)}"
        )
    _checks.one_of("vid_loss", "reduction", reduction, REDUCTIONS)
    tensors = same_dtype(student, constant(teacher, teacher_grad), variance)
    return reference.vid_loss(*tensors, reduction=reduction)
