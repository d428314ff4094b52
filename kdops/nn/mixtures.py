"""Losses of peers that learn from a mixture of their logits: Collaborative Learning, ONE."""

from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .. import functional as F
from ..functional._peers import Peers, as_batch
from ..functional._rows import summed, widened
from .mutual import Terms
from .options import Options

DIVERGENCES = ("kl", "cross_entropy")


class MixtureLoss(Options):
    """What they share: a scalar of (logits, target, ...), and its terms."""

    def mixture(self, logits: Peers, target: Tensor, **options: Any) -> tuple[Tensor, Terms]:
        return F.mixture_kl(
            logits,
            target,
            temperature=self.temperature,
            ignore_index=self.ignore_index,
            scale_t2=self.scale_t2,
            target_grad="none" if self.detach_target else "all",
            return_terms=True,
            **options,
        )


class CollaborativeLoss(MixtureLoss):
    """Collaborative Learning: every head learns from the mean of the other heads' logits.

        sum_h beta CE(z_h) + (1 - beta) J(q_h, softmax(z_h / T)),  q_h = softmax(mean_j!=h z_j / T)

    J is the KL, or the paper's cross-entropy, which is greater by q_h's entropy: for constant q_h
    the same gradient. Called with (logits, target), H heads' logits. One head alone has plain
    cross-entropy, without beta.

    Args:
        beta: share of the labels, in [0, 1].
        temperature: T.
        divergence: J, 'kl' or 'cross_entropy'.
        kd_weight, ce_weight: further factors of the soft targets and the labels.
        scale_t2: whether they carry T^2; re-implementations differ, by 4 at T = 2.
        detach_target: whether q_h is constant; one re-implementation lets its gradient through.
        ignore_index: as of `mixture_kl`.
    Source: Song, Chai, 2018, "Collaborative Learning for Deep Neural Networks", equation 3.

    >>> heads = torch.randn(4, 64, 10, requires_grad=True)
    >>> CollaborativeLoss()(heads, torch.randint(10, (64,))).backward()
    """

    def __init__(
        self,
        *,
        beta: float = 0.5,
        temperature: float = 2.0,
        divergence: str = "kl",
        kd_weight: float = 1.0,
        ce_weight: float = 1.0,
        scale_t2: bool = False,
        detach_target: bool = True,
        ignore_index: int = -100,
    ):
        if _checks.number("CollaborativeLoss", "beta", beta, low=0) > 1:
            raise ValueError(f"CollaborativeLoss: beta must be in [0, 1], got {beta}")
        _checks.one_of("CollaborativeLoss", "divergence", divergence, DIVERGENCES)
        super().__init__(
            beta=beta,
            temperature=temperature,
            divergence=divergence,
            kd_weight=kd_weight,
            ce_weight=ce_weight,
            scale_t2=scale_t2,
            detach_target=detach_target,
            ignore_index=ignore_index,
        )

    def forward(
        self, logits: Peers, target: Tensor, *, return_terms: bool = False
    ) -> Tensor | tuple[Tensor, Terms]:
        alone = as_batch("CollaborativeLoss", logits).count == 1
        soft = 0.0 if alone else self.kd_weight * (1 - self.beta)
        loss, terms = self.mixture(
            logits,
            target,
            weights=torch.ones(1, 1, device=logits[0].device) if alone else None,
            ce_weight=self.ce_weight * (1.0 if alone else self.beta),
            kd_weight=soft,
        )
        if self.divergence == "cross_entropy" and not alone:
            entropies = [soft * self.entropy(t, target) for t in others(logits)]
            loss = loss + summed(entropies).to(loss.dtype)
            terms["kl"] = terms["kl"] + torch.stack(entropies).detach()
        return (loss, terms) if return_terms else loss

    def entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over the counted rows of softmax(logits / T)'s, with T^2 where the KL has it."""
        counted = target != self.ignore_index
        logits = logits.detach() if self.detach_target else logits
        logits = torch.where(counted[..., None], logits, 0)
        options = {"temperature": self.temperature, "scale_t2": self.scale_t2}
        rows = F.soft_cross_entropy(logits, logits, reduction="none", teacher_grad=True, **options)
        return torch.where(counted, rows, 0).sum() / counted.sum().clamp(min=1)


def others(logits: Peers) -> list[Tensor]:
    """The mean of the other heads' logits, for each head."""
    heads = [widened(x) for x in logits]
    return [torch.stack(heads[:h] + heads[h + 1 :]).mean(0) for h in range(len(heads))]


class GatedEnsembleLoss(MixtureLoss):
    """ONE: branches that learn from their gated ensemble, which learns the labels itself.

        sum_k CE(z_k) + CE(z_e) + kd_weight T^2 sum_k KL(softmax(z_e / T) || softmax(z_k / T))

    z_e = sum_k gate_k z_k, row by row. Called with (logits, gate, target): K branches' logits and
    (N, K) weights, as `EnsembleGate` gives them.

    Args:
        temperature: T.
        kd_weight: of the KLs.
        ce_weight: of the labels, for every branch and for the ensemble.
        scale_t2, ignore_index: as of `mixture_kl`.
        detach_target: whether the KLs' targets are constant: the authors' code; the gate then
            learns from the labels alone. A re-implementation lets the KLs' gradient through to the
            gate and the branches.
    Source: Lan, Zhu, Gong, 2018, "Knowledge Distillation by On-the-Fly Native Ensemble", equations
        4 to 8.

    >>> branches, gate = torch.randn(3, 64, 10, requires_grad=True), torch.randn(64, 3).softmax(1)
    >>> GatedEnsembleLoss()(branches, gate, torch.randint(10, (64,))).backward()
    """

    def __init__(
        self,
        *,
        temperature: float = 3.0,
        kd_weight: float = 1.0,
        ce_weight: float = 1.0,
        scale_t2: bool = True,
        detach_target: bool = True,
        ignore_index: int = -100,
    ):
        super().__init__(
            temperature=temperature,
            kd_weight=kd_weight,
            ce_weight=ce_weight,
            scale_t2=scale_t2,
            detach_target=detach_target,
            ignore_index=ignore_index,
        )

    def forward(
        self, logits: Peers, gate: Tensor, target: Tensor, *, return_terms: bool = False
    ) -> Tensor | tuple[Tensor, Terms]:
        _checks.tensor("GatedEnsembleLoss", "gate", gate)
        batch = as_batch("GatedEnsembleLoss", logits)
        if tuple(gate.shape) != (*batch.lead, batch.count):
            raise ValueError(
                f"GatedEnsembleLoss: gate must be {(*batch.lead, batch.count)}, a weight for every "
                f"branch in every row, got shape {tuple(gate.shape)}"
            )
        loss, terms = self.mixture(
            logits,
            target,
            weights=gate[..., None, :],
            kd_weight=self.kd_weight,
            ce_weight=self.ce_weight,
            ensemble_ce_weight=self.ce_weight,
        )
        return (loss, terms) if return_terms else loss
