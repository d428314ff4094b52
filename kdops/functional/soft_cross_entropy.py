"""Cross-entropy against a teacher's softened distribution."""

from collections.abc import Sequence

from torch import Tensor

from .. import _checks, reference
from .._native import define
from ._dispatch import RowLoss, Scalars, Tensors
from ._rows import (
    REDUCTIONS,
    row_outputs,
    same_dtype,
    soft_weight,
    teacher_gradient,
    weight_of_rows,
)


def _fake(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    weight: float,
    reduction: int,
    student_grad: bool,
) -> Sequence[Tensor]:
    return row_outputs(student, reduction, student_grad)


_op = define(
    "_soft_cross_entropy(Tensor student, Tensor teacher, float temperature, float weight, "
    "int reduction, bool student_grad) -> (Tensor, Tensor)",
    _fake,
)


def _native(tensors: Tensors, scalars: Scalars, student_grad: bool) -> Sequence[Tensor]:
    temperature, reduction, scale_t2 = scalars
    weight = soft_weight(1.0, temperature, scale_t2)
    return _op(*tensors, temperature, weight, REDUCTIONS[reduction], student_grad)


def _formula(tensors: Tensors, scalars: Scalars) -> Tensor:
    temperature, reduction, scale_t2 = scalars
    return reference.soft_cross_entropy(
        *tensors, temperature=temperature, reduction=reduction, scale_t2=scale_t2
    )


def _teacher_gradient(tensors: Tensors, scalars: Scalars, upstream: Tensor) -> Tensor:
    student, teacher = tensors
    temperature, reduction, scale_t2 = scalars
    weight = weight_of_rows(upstream, reduction, student.shape[:-1].numel())
    weight = weight * soft_weight(1.0, temperature, scale_t2)
    return teacher_gradient(teacher, -student.double(), temperature, weight)


_loss = RowLoss("soft_cross_entropy", _native, _formula, _teacher_gradient)


def soft_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    reduction: str = "batchmean",
    scale_t2: bool = True,
    teacher_grad: bool = False,
) -> Tensor:
    """Cross-entropy of softened student and teacher, a row: T^2 * -sum_c p_c log q_c.

    p = softmax(teacher / T), q = softmax(student / T). It is the KL of `kd_loss` plus the
    teacher's entropy: the same gradient for the student, another value.

    Args:
        student: (..., C) raw logits, C >= 1; float32, float64, bfloat16 or float16.
        teacher: the same shape; another float type is promoted, nothing is broadcast.
        temperature: T in [2^-20, 2^20]; a number or a 0-dim CPU tensor without gradient.
        reduction: 'batchmean' and 'mean' divide the sum by the number of rows, never by C; 'sum';
            'none' gives one value a row in the leading shape.
        scale_t2: whether the loss carries T^2.
        teacher_grad: whether the teacher gets its gradient too.
    Returns:
        A scalar, or the leading shape for 'none'; float32, float64 for float64 inputs. No row: 0.
        A student logit of -inf where the teacher's is finite makes the row's loss +inf.
    Raises:
        TypeError, ValueError, RuntimeError: as `kd_loss`.
    Gradient:
        To student, and to teacher with teacher_grad; second derivatives through the reference.
        Bitwise repeatable on any number of threads.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section 2.
    """
    _checks.logits("soft_cross_entropy", student, teacher)
    temperature = _checks.temperature("soft_cross_entropy", temperature)
    _checks.one_of("soft_cross_entropy", "reduction", reduction, REDUCTIONS)
    if teacher.requires_grad and not teacher_grad:
        teacher = teacher.detach()
    student, teacher = same_dtype(student, teacher)
    scalars = (temperature, reduction, scale_t2)
    return _loss((student, teacher), scalars)
