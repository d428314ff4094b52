"""Draws from a discrete distribution by two tables, after Walker and Vose."""

import torch
from torch import Tensor

from ... import _checks


class AliasMethod:
    """Draws of {0, ..., K - 1} with probabilities probs (K,), each in a time apart from K.

    A draw is i, uniform, with probability prob[i], and else alias[i]. Probabilities whose sum is
    above 1 are brought to 1, in a tensor of its own, where the peers write into probs. A sum below
    1 is left as it is, as there, and gives another distribution.
    Draws use torch's generator of the tables' device: a seed gives the peers' draws.
    kdops has no other form.
    Raises:
        TypeError: for probs that are no float tensor.
        ValueError: for probs of another shape, for none, or for one that is negative or NaN.
    Source: RepDistiller, crd/memory.py; mdistiller, mdistiller/distillers/CRD.py.
    """

    def __init__(self, probs: Tensor) -> None:
        _checks.tensor("AliasMethod", "probs", probs)
        if probs.dim() != 1 or not len(probs) or not (probs >= 0).all():
            raise ValueError(
                "AliasMethod: probs must be (K,) probabilities >= 0, K >= 1, "
                f"got shape {tuple(probs.shape)}"
                + (f" and a least entry of {probs.min():.3g}" if probs.numel() else "")
            )
        total = probs.sum()
        probs = probs / total if total > 1 else probs
        self.prob = (len(probs) * probs).float()
        self.alias = torch.zeros(len(probs), dtype=torch.long, device=probs.device)
        few, many = (x.nonzero().flatten().tolist() for x in (self.prob < 1, self.prob >= 1))
        while few and many:
            i, j = few.pop(), many.pop()
            self.alias[i] = j
            self.prob[j] = (self.prob[j] - 1) + self.prob[i]
            (few if self.prob[j] < 1 else many).append(j)
        self.prob[few + many] = 1

    def to(self, device: torch.device | str) -> None:
        """Move the tables."""
        self.prob, self.alias = self.prob.to(device), self.alias.to(device)

    def cuda(self) -> None:
        self.to("cuda")

    def draw(self, N: int) -> Tensor:  # noqa: N803
        """(N,) int64"""
        i = torch.randint(len(self.alias), (N,), device=self.alias.device)
        return torch.where(torch.bernoulli(self.prob[i]).bool(), i, self.alias[i])
