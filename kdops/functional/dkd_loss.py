"""Decoupled KD: the target class against the rest, and the rest among themselves."""

import math
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from ._composed import constant
from ._rows import REDUCTIONS, same_dtype
from .kd_loss import kd_loss


def _decoupled(
    x: Tensor, label: Tensor, counted: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of (target, all others), the others alone, and whether there are any."""
    x = x if x.dtype == torch.float64 else x.float()
    x = x.masked_fill(~counted, 0.0)
    rest = x.scatter(-1, label, -torch.inf)
    none = (rest == -torch.inf).all(-1, keepdim=True)
    largest = rest.detach().amax(-1, keepdim=True).masked_fill(none, 0.0)
    others = torch.logsumexp((rest - largest).masked_fill(none, 0.0) / temperature, -1, True)
    others = (temperature * others).masked_fill(none, -torch.inf)
    return torch.cat([x.gather(-1, label) - largest, others], -1), rest, none


def _check(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    weights: dict[str, float],
    reduction: str,
    ignore_index: int,
) -> None:
    _checks.logits("dkd_loss", student, teacher)
    for name, weight in weights.items():
        _checks.number("dkd_loss", name, weight)
    _checks.one_of("dkd_loss", "reduction", reduction, REDUCTIONS)
    _checks.integer("dkd_loss", "ignore_index", ignore_index, low=-math.inf)
    _checks.target("dkd_loss", target, student)
    if student.shape[-1] < 2:
        raise ValueError("dkd_loss: student must have at least two classes, got 1")
    if not torch.compiler.is_compiling():
        _checks.label_range("dkd_loss", target, student.shape[-1], ignore_index)


def dkd_loss(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    temperature: float = 4.0,
    target_weight: float = 1.0,
    rest_weight: float = 8.0,
    reduction: str = "batchmean",
    ignore_index: int = -100,
    teacher_grad: bool = False,
) -> Tensor:
    """Hinton's KL in two parts with weights of their own.

        T^2 (target_weight KL(b' || b) + rest_weight KL(p' || p))

    b = (q_y, 1 - q_y) with q = softmax(student / T) and y = target; p the softmax over the classes
    other than y; primes are the teacher's. KL = KL(b' || b) + (1 - q'_y) KL(p' || p) is `kd_loss`,
    whose kernel computes both parts: each is never negative, 1 - q_y does not underflow.

    Args:
        student: (..., C) raw logits, C >= 2; float32, float64, bfloat16 or float16.
        teacher: the same shape; another float type is promoted, nothing is broadcast.
        target: the leading shape, int64 or int32 labels in [0, C) or ignore_index.
        temperature: T in [2^-20, 2^20].
        target_weight: of the first part, the paper's alpha, 1.
        rest_weight: of the second part, the paper's beta, 8.
        reduction: 'batchmean' and 'mean' divide by the number of counted rows; 'sum'; 'none' gives
            one value a row in the leading shape.
        ignore_index: a row with this target counts nowhere.
        teacher_grad: whether the teacher gets its gradient too.
    Returns:
        A scalar, or the leading shape for 'none'; float32, float64 for float64 inputs. No counted
        row: 0. Two classes, and a row whose other logits are all -inf in the teacher, have no
        second part. Infinite logits else and NaN as in `kd_loss`.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range. IndexError:
        for a label out of range; the host reads the labels, on a GPU too. RuntimeError: for two
        devices.
    Gradient:
        To student, and to teacher with teacher_grad. Second derivatives go through the reference.
    Source: Zhao, Cui, Song, Qiu, Liang, 2022, "Decoupled Knowledge Distillation", section 3,
        equations 6 and 7.

    >>> student = torch.randn(64, 10, requires_grad=True)
    >>> dkd_loss(student, torch.randn(64, 10), torch.randint(10, (64,))).backward()
    """
    temperature = _checks.temperature("dkd_loss", temperature)
    weights = {"target_weight": target_weight, "rest_weight": rest_weight}
    _check(student, teacher, target, weights, reduction, ignore_index)
    counted = (target != ignore_index).unsqueeze(-1)
    label = target.long().unsqueeze(-1).masked_fill(~counted, 0)
    student, teacher = same_dtype(student, constant(teacher, teacher_grad))
    binary, rest, none = _decoupled(student, label, counted, temperature)
    binary_teacher, rest_teacher, none_teacher = _decoupled(teacher, label, counted, temperature)
    rest = rest.masked_fill(none | none_teacher, 0.0)
    rest_teacher = rest_teacher.masked_fill(none_teacher, 0.0)
    options: dict[str, Any] = {
        "temperature": temperature,
        "reduction": reduction,
        "ignore_index": ignore_index,
        "teacher_grad": teacher_grad,
    }
    first = kd_loss(binary, binary_teacher, target, kd_weight=target_weight, **options)
    return first + kd_loss(rest, rest_teacher, target, kd_weight=rest_weight, **options)
