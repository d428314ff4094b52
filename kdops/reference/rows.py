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


def log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return F.log_softmax(logits / temperature, -1)


def kl_row(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(p || q) as sum p phi(log q - log p): no term is negative, equal rows give exactly 0."""
    absent = log_p == -torch.inf
    u = torch.where(absent, 0.0, log_q - torch.where(absent, 0.0, log_p))
    p, q = log_p.exp(), log_q.exp()
    near = u.abs() < 0.25
    # q and not p exp(u) beyond: p may underflow where exp(u) overflows.
    far = q - p - p * torch.where(near, 0.0, u)
    value = torch.where(near, p * phi(torch.where(near, u, 0.0)), far)
    return torch.where(absent, q, value).sum(-1)


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
        log_q, log_p = log_softmax(student, temperature), log_softmax(teacher, temperature)
        value = value + weight * kl_row(log_q, log_p)
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
