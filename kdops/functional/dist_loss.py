"""DIST: correlations of predictions, over the classes of a row and over the rows of a class."""

from torch import Tensor

from .. import _checks, reference
from ._composed import constant
from ._rows import same_dtype


def dist_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
    teacher_grad: bool = False,
) -> Tensor:
    """How little the probabilities correlate, along rows and along columns.

        T^2 (inter_weight mean_n (1 - r(q_n:, p_n:)) + intra_weight mean_c (1 - r(q_:c, p_:c)))

    r is Pearson's correlation, q = softmax(student / T), p the teacher's. 1 - r is taken as half
    the squared distance of the standardised vectors: never negative, exactly 0 for equal ones.

    Args:
        student: (..., C) raw logits; float32, float64, bfloat16 or float16. All leading dimensions
            are rows.
        teacher: the same shape; another float type is promoted, nothing is broadcast.
        temperature: T in [2^-20, 2^20].
        inter_weight: of the rows, finite.
        intra_weight: of the columns, finite.
        teacher_grad: whether the teacher gets its gradient too.
    Returns:
        A scalar; float32, float64 for float64 inputs. Where one vector is constant 1 - r is 1, as
        published; where both are, 0: so a batch of one row has no intra-class term. No row: 0.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
        RuntimeError: for tensors on two devices.
    Gradient:
        To student, and to teacher with teacher_grad; a constant vector gets none. Twice
        differentiable.
    Source: Huang, You, Wang, Qian, Xu, 2022, "Knowledge Distillation from a Stronger Teacher",
        section 4, equations 6 to 10.

    >>> student = torch.randn(64, 10, requires_grad=True)
    >>> dist_loss(student, torch.randn(64, 10)).backward()
    """
    _checks.logits("dist_loss", student, teacher)
    temperature = _checks.temperature("dist_loss", temperature)
    return reference.dist_loss(
        *same_dtype(student, constant(teacher, teacher_grad)),
        temperature=temperature,
        inter_weight=_checks.number("dist_loss", "inter_weight", inter_weight),
        intra_weight=_checks.number("dist_loss", "intra_weight", intra_weight),
    )
