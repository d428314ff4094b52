"""What the losses over rows of logits share."""

import functools
import operator
from collections.abc import Iterable

import torch
from torch import Tensor

REDUCTIONS = {"batchmean": 0, "mean": 0, "sum": 1, "none": 2}  # the native ops' numbers


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def widened(x: Tensor) -> Tensor:
    """In the accumulation type; the conversion carries the gradient back."""
    return x.to(accumulation_dtype(x.dtype))


def same_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All in the one type that holds them; the conversions carry the gradient back."""
    dtypes = {x.dtype for x in tensors}
    if len(dtypes) == 1:
        return tensors
    dtype = functools.reduce(torch.promote_types, dtypes)
    return tuple(x.to(dtype) for x in tensors)


def summed(values: Iterable[Tensor]) -> Tensor:
    """The sum of one tensor at least; sum() may be the number 0."""
    return functools.reduce(operator.add, values)


def row_outputs(student: Tensor, reduction: int, student_grad: bool) -> tuple[Tensor, Tensor]:
    """The native row ops' outputs without their values: the loss, the student's gradient."""
    shape = student.shape[:-1] if reduction == REDUCTIONS["none"] else ()
    value = student.new_empty(shape, dtype=accumulation_dtype(student.dtype))
    return value, student.new_empty(student.shape if student_grad else (0,))


def soft_weight(weight: float, temperature: float, scale_t2: bool) -> float:
    """Of the soft term, with T^2 where the loss carries it."""
    return weight * temperature * temperature if scale_t2 else weight


def teacher_gradient(
    teacher: Tensor, potential: Tensor, temperature: float, row_weight: Tensor
) -> Tensor:
    """row_weight d<p, u>/dteacher, p = softmax(teacher / T) and u = potential / T a constant, of
    which a row's own offset is no matter: row_weight / T p_c (u_c - <p, u>), 0 where p_c is.

    The potential is in float64, for a difference of logits of different offsets.
    """
    p = torch.softmax(widened(teacher) / temperature, -1)
    # Less that of the likeliest class: what the classes share would cancel in u_c - <p, u>.
    u = (potential - potential.gather(-1, teacher.argmax(-1, keepdim=True))).to(p.dtype)
    u = torch.where(p == 0, 0.0, u)
    mean = (p * u).sum(-1, keepdim=True)
    return (p * (u - mean) * (row_weight / (temperature * temperature))).to(teacher.dtype)


def weight_of_rows(upstream: Tensor, reduction: str, counted: Tensor | int) -> Tensor:
    """The gradient of the reduced value by each row's, (..., 1) or (); counted is a mask, or how
    many rows there are.
    """
    if reduction == "none":
        return upstream[..., None]
    if reduction == "sum":
        return upstream
    if isinstance(counted, int):
        return upstream / max(1, counted)
    return upstream / counted.sum().clamp(min=1)
