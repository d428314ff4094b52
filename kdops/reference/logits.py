"""Rows of logits compared through their correlation, and brought to one scale."""

import torch
from torch import Tensor

from .numbers import accumulation, over, power_of_two, root


def centred(x: Tensor, dim: int) -> Tensor:
    """x less its mean; exactly 0 where all entries are equal."""
    x = x - x.narrow(dim, 0, min(1, x.shape[dim])).detach()
    return x - x.mean(dim, keepdim=True)


def standardize_logits(x: Tensor, *, unbiased: bool = True, eps: float = 0.0) -> Tensor:
    x = accumulation(x)
    scale = power_of_two(x, dim=-1)
    x = centred(x * scale, -1)
    freedom = max(1, x.shape[-1] - unbiased)
    deviation = root(x.square().sum(-1, keepdim=True) / freedom)
    value = over(x, deviation + eps * scale)
    return torch.where(deviation == 0, 0.0, value)  # and no gradient of 1 / eps


def correlation_distance(p: Tensor, q: Tensor, dim: int) -> Tensor:
    """1 - Pearson's correlation, as half of a square; 1 if one is constant, 0 if both are."""
    p, q = (x * power_of_two(x, dim=dim) for x in (centred(p, dim), centred(q, dim)))
    p, q = (over(x, root(x.square().sum(dim, keepdim=True))) for x in (p, q))
    constant, other_constant = (p == 0).all(dim), (q == 0).all(dim)
    value = (p - q).square().sum(dim) / 2
    value = torch.where(constant | other_constant, 1.0, value)
    return torch.where(constant & other_constant, 0.0, value)


def rows_and_columns(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """softmax(logits / T) less 1/C, and its columns up to the shift and scale that do not matter.

    Nearly equal logits keep their digits, and a column of tiny probabilities does not underflow.
    """
    d = (logits - logits.detach().amax(-1, keepdim=True)) / temperature
    e, total = torch.expm1(d), d.exp().sum(-1, keepdim=True)
    above = (e - e.mean(-1, keepdim=True)) / total
    log_p = d - total.log()
    largest = log_p.detach().amax(0).clamp(min=torch.finfo(d.dtype).min)  # -inf where masked
    near = above.abs().amax(0) < largest.exp() / 2
    return above, torch.where(near, above, (log_p - largest).exp())


def dist_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    inter_weight: float = 1.0,
    intra_weight: float = 1.0,
) -> Tensor:
    if student.numel() == 0:
        return accumulation(student).sum()
    ours, theirs = (
        rows_and_columns(accumulation(x).flatten(0, -2), temperature) for x in (student, teacher)
    )
    inter, intra = (
        correlation_distance(q, p, dim).mean()
        for q, p, dim in zip(ours, theirs, (1, 0), strict=True)
    )
    return temperature**2 * (inter_weight * inter + intra_weight * intra)
