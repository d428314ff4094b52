"""Losses of K peers over the same rows: each against the others, or against mixtures of logits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .numbers import accumulation
from .rows import counted_rows, kl_row, log_softmax, reduce_rows

Peers = Tensor | Sequence[Tensor]  # (K, ..., C), or K of (..., C)


class Rows:
    """The peers' rows: those that do not count are 0, value and gradient."""

    def __init__(self, logits: Peers, target: Tensor | None, ignore_index: int, reduction: str):
        self.counted, self.reduction = counted_rows(target, ignore_index), reduction
        self.logits = [self.masked(accumulation(x), 1) for x in logits]
        self.label = None if target is None else self.masked(target, 0).long()[..., None]

    def masked(self, x: Tensor, dims: int) -> Tensor:
        """x, 0 in rows that do not count; `dims` are its dimensions behind the rows'."""
        if self.counted is None:
            return x
        return torch.where(self.counted[(..., *(None,) * dims)], x, 0)

    def zeros(self) -> Tensor:
        return self.logits[0].new_zeros(self.logits[0].shape[:-1])

    def hard(self, logits: Tensor) -> Tensor:
        return -log_softmax(logits, 1.0).gather(-1, self.label)[..., 0]

    def total(self, values: Sequence[Tensor]) -> Tensor:
        """Each reduced, and stacked."""
        return torch.stack([self.reduced(value) for value in values])

    def reduced(self, value: Tensor) -> Tensor:
        return reduce_rows(self.masked(value, 0), self.counted, self.reduction)


def mutual_kl(
    logits: Peers,
    target: Tensor | None,
    weights: Sequence[Sequence[float]],
    ce_weights: Sequence[float],
    *,
    temperature: float = 1.0,
    reduction: str = "batchmean",
    ignore_index: int = -100,
    scale_t2: bool = True,
    peer_grad: bool = False,
) -> tuple[Tensor, Tensor]:
    """Each peer's loss, and the terms (K + K): the cross-entropies, the weighted KLs."""
    rows = Rows(logits, target, ignore_index, reduction)
    theirs = rows.logits if peer_grad else [x.detach() for x in rows.logits]
    factor = temperature**2 if scale_t2 else 1.0
    hard, soft = [], []
    for own, weight, ce_weight in zip(rows.logits, weights, ce_weights, strict=True):
        terms = [
            factor * w * kl_row(own, other, temperature)
            for w, other in zip(weight, theirs, strict=True)
            if w != 0
        ]
        soft.append(sum(terms, rows.zeros()))
        hard.append(rows.hard(own) if ce_weight != 0 else rows.zeros())
    losses = [s + w * h if w != 0 else s for s, h, w in zip(soft, hard, ce_weights, strict=True)]
    return rows.total(losses), rows.total([*hard, *soft]).detach()


def mixed(logits: Sequence[Tensor], weights: Tensor) -> list[Tensor]:
    """sum_k w_ak z_k of every a; a class that a weighted peer lacks (-inf) is lacking."""
    found = []
    for w in weights.unbind(-2):
        value: Any = 0.0
        lacking: Any = False
        for k, z in enumerate(logits):
            weight, absent = w[..., k, None], z == -torch.inf
            value = value + weight * torch.where(absent, 0.0, z)
            lacking = lacking | (absent & (weight != 0))
        found.append(torch.where(lacking, -torch.inf, value))
    return found


def least_logits(rows: Rows, logits: Sequence[Tensor]) -> Tensor:
    """The least of every class over the peers, once each one's label has the logit 0."""
    return torch.stack([z - z.gather(-1, rows.label) for z in logits]).amin(0)


def best_logits(rows: Rows, logits: Sequence[Tensor]) -> Tensor:
    """Those of the peer with the least cross-entropy, row by row; of equal ones the first."""
    stacked = torch.stack(list(logits))
    best = torch.stack([rows.hard(z.detach()) for z in logits]).argmin(0)
    return stacked.gather(0, best[None, ..., None].expand(1, *stacked.shape[1:]))[0]


def targets(
    rows: Rows, logits: Sequence[Tensor], weights: Tensor | None, rule: str
) -> list[Tensor]:
    if rule == "min_logit":
        return [least_logits(rows, logits)]
    if rule == "naive":
        return [best_logits(rows, logits)]
    return mixed(logits, weights)


def mixture_kl(
    logits: Peers,
    target: Tensor | None,
    weights: Tensor | None,
    ce_weights: Sequence[float],
    *,
    rule: str = "weights",
    temperature: float = 1.0,
    kd_weight: float = 1.0,
    ensemble_ce_weight: float = 0.0,
    reduction: str = "batchmean",
    ignore_index: int = -100,
    scale_t2: bool = True,
    target_grad: str = "none",
) -> tuple[Tensor, Tensor]:
    """The sum of all terms, and the terms (K + K + A): the peers' cross-entropies, their weighted
    KLs, the cross-entropies of the A targets."""
    rows = Rows(logits, target, ignore_index, reduction)
    if weights is not None:
        weights = weights.to(rows.logits[0].dtype)
        weights = rows.masked(weights, 2) if weights.dim() > 2 else weights
    live = targets(rows, rows.logits, weights, rule)
    constant = [x.detach() for x in rows.logits]
    if target_grad == "all":
        aims = live
    else:
        aims = targets(rows, constant, weights, rule)
        aims = [x.detach() for x in aims] if target_grad == "none" else aims
    aims = aims * len(rows.logits) if len(aims) == 1 else aims
    factor = kd_weight * (temperature**2 if scale_t2 else 1.0)
    soft = [
        factor * kl_row(own, aim, temperature) if factor != 0 else rows.zeros()
        for own, aim in zip(rows.logits, aims, strict=True)
    ]
    hard = [
        rows.hard(own) if w != 0 else rows.zeros()
        for own, w in zip(rows.logits, ce_weights, strict=True)
    ]
    ensemble = [rows.hard(x) if ensemble_ce_weight != 0 else rows.zeros() for x in live]
    loss: Any = sum(soft) + ensemble_ce_weight * sum(ensemble)
    loss = sum((w * h for w, h in zip(ce_weights, hard, strict=True) if w != 0), loss)
    return rows.reduced(loss), rows.total([*hard, *soft, *ensemble]).detach()
