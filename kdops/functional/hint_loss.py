"""FitNets' hint: a layer brought to the teacher's values."""

from torch import Tensor

from .. import _checks, reference
from ._composed import constant, same_shape

REDUCTIONS = ("batchmean", "mean", "sum", "none")


def hint_loss(
    student: Tensor, teacher: Tensor, *, reduction: str = "batchmean", teacher_grad: bool = False
) -> Tensor:
    """Half the squared distance between a regressed layer and the teacher's.

        1/N sum_n 1/2 |student_n - teacher_n|^2

    Args:
        student: (N, ...) the guided layer, after its regressor (`kdops.nn.HintRegressor`); float32,
            float64, bfloat16 or float16.
        teacher: the hint layer, the same shape; another float type is promoted, nothing is
            broadcast.
        reduction: 'batchmean' divides by N, the paper's; 'mean' by the number of entries: half of
            the mean squared error of one-stage codes; 'sum'; 'none' gives the shape of student.
        teacher_grad: whether the teacher gets its gradient too.
    Returns:
        A scalar, student's shape for 'none'; float32, float64 for float64 inputs. No entry: 0.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
        RuntimeError: for tensors on two devices.
    Gradient:
        To student, and to teacher with teacher_grad; twice differentiable.
    Source: Romero et al., 2015, "FitNets: Hints for Thin Deep Nets", section 2.2, equation 3.

    >>> student = torch.randn(8, 16, 7, 7, requires_grad=True)
    >>> hint_loss(student, torch.randn(8, 16, 7, 7)).backward()
    """
    same_shape("hint_loss", student, teacher)
    _checks.one_of("hint_loss", "reduction", reduction, REDUCTIONS)
    return reference.hint_loss(student, constant(teacher, teacher_grad), reduction=reduction)
