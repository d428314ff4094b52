"""Attention transfer: where in the image a layer is active."""

from torch import Tensor

from .. import _checks, reference
from ._composed import constant, same_batch
from ._rows import same_dtype

REDUCTIONS = ("mean", "batchmean", "sum", "none")


def at_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    p: float = 2,
    squared: bool = True,
    reduction: str = "mean",
    teacher_grad: bool = False,
) -> Tensor:
    """Squared difference of two attention maps.

        1/(N H W) sum_n |a_n - a'_n|^2,   a = v / |v|,   v = mean_c |student_c|^p

    Args:
        student: (N, C, H, W) feature maps; float32, float64, bfloat16 or float16.
        teacher: (N, C', H', W') feature maps; where a side differs the longer one is averaged
            over cells to the shorter. Another float type is promoted.
        p: power of the activations, >= 1; the published code's 2.
        squared: False takes |a - a'| itself, as the paper writes, one value a sample.
        reduction: 'mean' over samples and positions, as published code does; 'batchmean' over
            samples; 'sum'; 'none' gives (N, H W), or (N,) where squared is False.
        teacher_grad: whether the teacher gets its gradient too.
    Returns:
        A scalar, or as `reduction` says; float32, float64 for float64 inputs. No sample: 0.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
        RuntimeError: for tensors on two devices.
    Gradient:
        To student, and to teacher with teacher_grad; twice differentiable. A map that is 0
        everywhere has attention 0 and gets none. Scales of a sample from 1e-30 to 1e30 are exact.
    Source: Zagoruyko, Komodakis, 2017, "Paying More Attention to Attention", section 3.1,
        equation 2. The factor beta / 2 is the caller's; the code's beta is 1000 with 'mean'.

    >>> student = torch.randn(8, 16, 7, 7, requires_grad=True)
    >>> at_loss(student, torch.randn(8, 64, 14, 14)).backward()
    """
    _checks.feature_maps("at_loss", "student", student)
    _checks.feature_maps("at_loss", "teacher", teacher)
    same_batch("at_loss", student, teacher)
    _checks.number("at_loss", "p", p, low=1)
    _checks.one_of("at_loss", "reduction", reduction, REDUCTIONS)
    student, teacher = same_dtype(student, constant(teacher, teacher_grad))
    return reference.at_loss(student, teacher, p=p, squared=squared, reduction=reduction)
