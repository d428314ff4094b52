"""How alike nets are: between two trainings of one net, and within a group of peers."""

import torch
from torch import Tensor

from . import _checks
from .functional._peers import Peers, as_batch


def _rows(function: str, logits_a: Tensor, logits_b: Tensor) -> None:
    as_batch(function, [logits_a, logits_b])
    if logits_a.shape[:-1].numel() == 0:
        raise ValueError(f"{function}: logits must have at least one row, got none")


@torch.no_grad()
def churn(logits_a: Tensor, logits_b: Tensor) -> float:
    """The share of rows in which two nets name different classes.

    Args:
        logits_a, logits_b: (..., C), of the same rows.
    Returns:
        In [0, 1]. Of equal logits the first is a net's class.
    Raises:
        TypeError, ValueError: for a wrong type or shape, and for no row.
    Source: Anil et al., 2018, "Large Scale Distributed Neural Network Training through Online
        Distillation", on classes in place of probabilities.
    """
    _rows("churn", logits_a, logits_b)
    return (logits_a.argmax(-1) != logits_b.argmax(-1)).double().mean().item()


@torch.no_grad()
def peer_diversity(logits: Peers, *, reduction: str = "mean", eps: float = 0.0) -> Tensor:
    """The mean distance of peers' probabilities: 2 / (K (K - 1)) sum_i<j |p_i - p_j|, a row.

    Args:
        logits: (K, ..., C) of K >= 2 peers, or K tensors (..., C).
        reduction: 'mean' over rows, or 'none'.
        eps: added to every difference of probabilities; `torch.nn.PairwiseDistance` has 1e-6.
    Returns:
        A scalar, or (...) for 'none'; in [0, sqrt 2] for eps = 0; float32, float64 for float64.
    Raises:
        TypeError, ValueError: for a wrong type or shape, and for a single peer or no row.
    Source: Chen et al., 2020, "Online Knowledge Distillation with Diverse Peers", and its
        code, which divides by 3, the number of pairs of 3 peers, whatever the number.
    """
    _checks.one_of("peer_diversity", "reduction", reduction, ("mean", "none"))
    _checks.number("peer_diversity", "eps", eps, low=0)
    batch = as_batch("peer_diversity", logits)
    if batch.count < 2:
        raise ValueError(f"peer_diversity: there must be at least two peers, got {batch.count}")
    peers = list(logits)
    _rows("peer_diversity", *peers[:2])
    wide = torch.float64 if peers[0].dtype == torch.float64 else torch.float32
    p = [x.softmax(-1, dtype=wide) for x in peers]
    pairs = [(p[i] - p[j] + eps).norm(dim=-1) for j in range(len(p)) for i in range(j)]
    value = sum(pairs) / len(pairs)
    return value.mean() if reduction == "mean" else value
