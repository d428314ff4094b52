"""Hinton's distillation loss: temperature KL and cross-entropy in one pass over the logits."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _checks, reference
from .._native import define
from ..reference.rows import counted_rows
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
    target: Tensor | None,
    temperature: float,
    kd_weight: float,
    ce_weight: float,
    reduction: int,
    ignore_index: int,
    student_grad: bool,
) -> Sequence[Tensor]:
    return row_outputs(student, reduction, student_grad)


_op = define(
    "_kd_loss(Tensor student, Tensor teacher, Tensor? target, float temperature, float kd_weight, "
    "float ce_weight, int reduction, int ignore_index, bool student_grad) -> (Tensor, Tensor)",
    _fake,
)


def _native(tensors: Tensors, scalars: Scalars, student_grad: bool) -> Sequence[Tensor]:
    temperature, kd_weight, ce_weight, reduction, ignore_index, scale_t2 = scalars
    kd_weight = soft_weight(kd_weight, temperature, scale_t2)
    reduction = REDUCTIONS[reduction]
    return _op(*tensors, temperature, kd_weight, ce_weight, reduction, ignore_index, student_grad)


def _formula(tensors: Tensors, scalars: Scalars) -> Tensor:
    temperature, kd_weight, ce_weight, reduction, ignore_index, scale_t2 = scalars
    return reference.kd_loss(
        *tensors,
        temperature=temperature,
        kd_weight=kd_weight,
        ce_weight=ce_weight,
        reduction=reduction,
        ignore_index=ignore_index,
        scale_t2=scale_t2,
    )


def _teacher_gradient(tensors: Tensors, scalars: Scalars, upstream: Tensor) -> Tensor:
    student, teacher, target = tensors
    temperature, kd_weight, _, reduction, ignore_index, scale_t2 = scalars
    counted = counted_rows(target, ignore_index)
    rows = student.shape[:-1].numel() if counted is None else counted
    weight = weight_of_rows(upstream, reduction, rows)
    weight = weight * soft_weight(kd_weight, temperature, scale_t2)
    potential = teacher.double() - student.double()
    gradient = teacher_gradient(teacher, potential, temperature, weight)
    return gradient if counted is None else torch.where(counted[..., None], gradient, 0.0)


_loss = RowLoss("kd_loss", _native, _formula, _teacher_gradient)


def _check(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None,
    kd_weight: float,
    ce_weight: float,
    reduction: str,
    ignore_index: int,
) -> None:
    _checks.logits("kd_loss", student, teacher)
    _checks.number("kd_loss", "kd_weight", kd_weight)
    _checks.number("kd_loss", "ce_weight", ce_weight)
    _checks.one_of("kd_loss", "reduction", reduction, REDUCTIONS)
    _checks.integer("kd_loss", "ignore_index", ignore_index, low=-math.inf)
    if target is not None:
        _checks.target("kd_loss", target, student)
    elif ce_weight > 0:
        raise ValueError(f"kd_loss: target must be given for ce_weight > 0, got {ce_weight}")


def kd_loss(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float = 4.0,
    kd_weight: float = 1.0,
    ce_weight: float = 0.0,
    reduction: str = "batchmean",
    ignore_index: int = -100,
    scale_t2: bool = True,
    teacher_grad: bool = False,
) -> Tensor:
    """Soft-target loss of logits, with the hard-label loss in the same pass.

    With p = softmax(teacher / T), q = softmax(student / T) and y = target, a row is

        kd_weight * T^2 * sum_c p_c (log p_c - log q_c) - ce_weight * log softmax(student)_y

    The KL is summed in a form whose terms are all >= 0: it is never negative, and exactly 0 with
    an exactly zero gradient for equal rows.

    Args:
        student: (..., C) raw logits, C >= 1; float32, float64, bfloat16 or float16. All leading
            dimensions are rows.
        teacher: the same shape; another float type is promoted, nothing is broadcast.
        target: the leading shape, int64 or int32 labels in [0, C) or ignore_index. With
            ce_weight = 0 it is a mask only, and its other values are not read.
        temperature: T in [2^-20, 2^20]; a number or a 0-dim CPU tensor without gradient.
        kd_weight: weight of the soft term, finite; 0 leaves it out.
        ce_weight: weight of the hard term (at temperature 1), finite; > 0 needs a target.
        reduction: 'batchmean' and 'mean' divide the sum by the number of counted rows, never by C
            (torch's 'mean' divides by C too, its 'batchmean' by the first dimension only);
            'sum'; 'none' gives one value a row in the leading shape.
        ignore_index: a row with this target counts nowhere: value and gradient are exactly 0,
            whatever its logits.
        scale_t2: whether the soft term carries T^2, which keeps its gradient's size when T changes.
        teacher_grad: whether the teacher gets its gradient too.
    Returns:
        A scalar, or the leading shape for 'none'; float32, float64 for float64 inputs. No counted
        row: 0. A logit of -inf in the same column of both drops the column; -inf in the student
        alone makes the row's loss +inf; NaN gives NaN, in its row only.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range, or ce_weight
        without target. IndexError: for a label out of range; on a GPU its row is NaN instead, for
        the host does not wait to see it. RuntimeError: for two devices.
    Gradient:
        To student, and to teacher with teacher_grad; in the input's type. Computed in the forward
        pass; second derivatives go through the reference. Bitwise repeatable on any number of
        threads.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section 2.

    >>> student = torch.randn(64, 10, requires_grad=True)
    >>> loss = kd_loss(student, torch.randn(64, 10), torch.randint(10, (64,)), ce_weight=0.1)
    >>> loss.backward()
    """
    temperature = _checks.temperature("kd_loss", temperature)
    _check(student, teacher, target, kd_weight, ce_weight, reduction, ignore_index)
    if teacher.requires_grad and not (teacher_grad and kd_weight):
        teacher = teacher.detach()
    student, teacher = same_dtype(student, teacher)
    scalars = (temperature, kd_weight, ce_weight, reduction, ignore_index, scale_t2)
    try:
        return _loss((student, teacher, target), scalars)
    except (RuntimeError, IndexError):
        if target is not None and ce_weight != 0 and not torch.compiler.is_compiling():
            _checks.label_range("kd_loss", target, student.shape[-1], ignore_index)
        raise
