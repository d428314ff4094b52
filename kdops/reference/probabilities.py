"""Losses between maps whose rows are normalised each by itself: PKT by sums, SP by lengths."""

import torch
from torch import Tensor

from .maps import unit_rows
from .numbers import accumulation, over, power_of_two, root
from .rows import kl_terms
from .share import WHOLE, Share


def bounded_unit_rows(x: Tensor, eps: float) -> Tensor:
    """Rows over their length plus eps."""
    if eps == 0:
        return unit_rows(x)
    scale = power_of_two(x, dim=-1)
    x = x * scale
    return x / (root(x.square().sum(-1, keepdim=True)) + eps * scale)


def similarity(
    x: Tensor, kernel: str, include_self: bool, eps: float, share: Share = WHOLE
) -> Tensor:
    """(1 + cosine) / 2 or 1 / (1 + distance); 0 for a row with itself where that is excluded."""
    if kernel == "cosine":
        k = (1 + share.products(bounded_unit_rows(x, eps))) / 2
        k = torch.where(k > 0, k, k * 0)  # not 0.0: NaN stays
    else:
        scale = power_of_two(x)
        k = 1 / (1 + root(share.squared_distances(x * scale) + eps * scale * scale) / scale)
    return k if include_self else torch.where(share.off_diagonal(x), k, 0.0)


def divergence_rows(k: Tensor, k_teacher: Tensor, divergence: str) -> Tensor:
    """KL(p || q) or its symmetric sum with KL(q || p) of every row, q and p the maps over their
    rows' sums, from the differences of the maps: equal maps give exactly 0.
    """
    r, r_teacher = k.sum(-1, keepdim=True), k_teacher.sum(-1, keepdim=True)
    q, p = over(k, r), over(k_teacher, r_teacher)
    none, none_teacher = k == 0, k_teacher == 0
    either = none | none_teacher
    ratio = torch.where(either, 0.0, over(k - k_teacher, k_teacher))
    shift = torch.where((r == 0) | (r_teacher == 0), 0.0, over(r_teacher - r, r))
    u = torch.where(either, 0.0, torch.log1p(ratio) + torch.log1p(shift))
    one_sided = torch.where(none & none_teacher, 0.0, torch.inf)
    if divergence == "jeffreys":
        return torch.where(either, one_sided, (q - p) * u).sum(-1)
    terms = kl_terms(p, q, u, none_teacher)
    return torch.where(none & ~none_teacher, torch.inf, terms).sum(-1)


def published_kl_rows(k: Tensor, k_teacher: Tensor, eps: float) -> Tensor:
    """sum_j p log((p + eps) / (q + eps)), from the differences of the maps, plus sum_j q - p, which
    is 0: nearly equal maps keep their digits.
    """
    r, r_teacher = k.sum(-1, keepdim=True), k_teacher.sum(-1, keepdim=True)
    q, p = over(k, r), over(k_teacher, r_teacher)
    gap = (over(k - k_teacher, r) + p * over(r_teacher - r, r)) / (p + eps)
    near = gap.abs() < 0.5
    far = torch.log((q + eps) / (p + eps))
    u = torch.where(near, torch.log1p(torch.where(near, gap, 0.0)), far)
    terms = kl_terms(p + eps, q + eps, u, torch.zeros_like(p, dtype=torch.bool)) + eps * u
    return torch.where(r > 0, terms, -p * far).sum(-1)


def reduce_power(value: Tensor, rows: int, reduction: str, share: Share = WHOLE) -> Tensor:
    """'mean' divides by rows^2, 'batchmean' by rows."""
    if reduction == "none":
        return value
    divisor = {"sum": 1, "batchmean": max(1, rows), "mean": max(1, rows * rows)}[reduction]
    return share.total(value) / divisor


def pkt_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    kernel: str = "cosine",
    divergence: str = "kl",
    include_self: bool = True,
    reduction: str = "batchmean",
    eps: float = 0.0,
    share: Share = WHOLE,
) -> Tensor:
    student, teacher = accumulation(student), accumulation(teacher)
    eps = eps and max(eps, torch.finfo(student.dtype).tiny)
    k, k_teacher = (similarity(x, kernel, include_self, eps, share) for x in (student, teacher))
    if eps and divergence == "kl":
        rows = published_kl_rows(k, k_teacher, eps)
    else:
        rows = divergence_rows(k, k_teacher, divergence)
    return reduce_power(rows, student.shape[0], reduction, share)


def row_normalised_gram(x: Tensor, norm: int, share: Share = WHOLE) -> Tensor:
    """Inner products over their row's Euclidean length, or over its sum of magnitudes."""
    x = accumulation(x)
    gram = share.products(x * power_of_two(x))
    if norm == 1:
        return over(gram, gram.abs().sum(-1, keepdim=True))
    return over(gram, root(gram.square().sum(-1, keepdim=True)))


def sp_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    reduction: str = "mean",
    norm: int = 2,
    share: Share = WHOLE,
) -> Tensor:
    ours, theirs = (row_normalised_gram(x, norm, share) for x in (student, teacher))
    return reduce_power((ours - theirs).square(), student.shape[0], reduction, share)
