"""Losses of one row of logits: temperature KL, cross-entropy, and their sum."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .numbers import accumulation

SERIES = 14  # terms of phi: below 1e-16 for |u| <= 1/4


def phi(u: Tensor) -> Tensor:
    """exp(u) - 1 - u for |u| <= 1/4 by its series: the difference would cancel."""
    tail = torch.ones_like(u)
    for n in range(SERIES, 2, -1):
        tail = 1 + tail * u / n
    return u * u / 2 * tail


def kl_terms(p: Tensor, q: Tensor, u: Tensor, absent: Tensor) -> Tensor:
    """q - p - p u >= 0, u = log q - log p: they sum to KL(p || q); q where p is absent."""
    small = u.abs() < 0.25
    # q and not p exp(u) beyond: p may underflow where exp(u) overflows.
    value = torch.where(small, p * phi(torch.where(small, u, 0.0)), q - p - p * u)
    return torch.where(absent, q, value)


def log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits / temperature, -1)


def near_log_ratio(
    student: Tensor, teacher: Tensor, temperature: float, p: Tensor
) -> tuple[Tensor, Tensor]:
    """log q - log p from the differences of the logits, and in which rows these are small enough.

    The difference of two log-softmaxes would cancel there, and so would that of scaled logits.
    """
    both = (student == -torch.inf) & (teacher == -torch.inf)
    d = torch.where(both, 0.0, student) - torch.where(both, 0.0, teacher)
    d = (d - d.gather(-1, teacher.argmax(-1, keepdim=True))) / temperature
    near = d.abs().amax(-1, keepdim=True) < 1
    d = torch.where(near, d, 0.0)
    return d - torch.log1p((p * torch.expm1(d)).sum(-1, keepdim=True)), near


def kl_row(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(p || q) as sum p phi(log q - log p): no term is negative, equal rows give exactly 0."""
    absent = teacher == -torch.inf
    log_q, log_p = log_softmax(student, temperature), log_softmax(teacher, temperature)
    p, q = log_p.exp(), log_q.exp()
    u, near = near_log_ratio(student, teacher, temperature, p)
    u = torch.where(near, u, log_q - torch.where(absent, 0.0, log_p))
    return kl_terms(p, q, torch.where(absent, 0.0, u), absent).sum(-1)


def counted_rows(target: Tensor | None, ignore_index: int) -> Tensor | None:
    return None if target is None else target != ignore_index


def reduce_rows(value: Tensor, counted: Tensor | None, reduction: str) -> Tensor:
    if reduction == "none":
        return value
    total = value.sum()
    if reduction == "sum":
        return total
    if counted is None:
        return total / max(1, value.numel())
    return total / counted.sum().clamp(min=1)


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
) -> Tensor:
    student, teacher = accumulation(student), accumulation(teacher)
    counted = counted_rows(target, ignore_index)
    if counted is not None:
        student = torch.where(counted[..., None], student, 0.0)
        teacher = torch.where(counted[..., None], teacher, 0.0)
    value = student.new_zeros(student.shape[:-1])
    if kd_weight != 0:
        weight = kd_weight * (temperature**2 if scale_t2 else 1.0)
        value = value + weight * kl_row(student, teacher, temperature)
    if ce_weight != 0:
        label = torch.where(counted, target, 0).long()[..., None]
        value = value - ce_weight * log_softmax(student, 1.0).gather(-1, label)[..., 0]
    if counted is not None:
        value = torch.where(counted, value, 0.0)
    return reduce_rows(value, counted, reduction)


def soft_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    reduction: str = "batchmean",
    scale_t2: bool = True,
) -> Tensor:
    student, teacher = accumulation(student), accumulation(teacher)
    weight = temperature**2 if scale_t2 else 1.0
    log_q, log_p = log_softmax(student, temperature), log_softmax(teacher, temperature)
    absent = log_p == -torch.inf
    value = -torch.where(absent, 0.0, log_p.exp() * torch.where(absent, 0.0, log_q)).sum(-1)
    return reduce_rows(weight * value, None, reduction)
