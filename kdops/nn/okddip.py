"""OKDDip: peers that attend to each other, and a leader that learns from all of them."""

from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .. import functional as F
from ..functional._peers import Peers, as_batch, check_rows
from ..functional._rows import accumulation_dtype
from .mutual import Terms
from .options import Options

AGGREGATES = ("logits", "probabilities")
TARGET_GRADS = {"all": "all", "attention": "weights", "none": "none"}


class OKDDipLoss(Options):
    """OKDDip: two levels of soft targets, of P peers and of the leader, and everyone's labels.

        sum_a CE(z_a) + CE(z_l) + kd_weight T^2 (sum_a KL(q_a || p_a) + KL(q_l || p_l))

    p = softmax(z / T). The target of peer a is softmax(sum_b attention_ab z_b / T), its own share
    included, or sum_b attention_ab p_b; the leader's the same with 1 / P. Called with
    (peer_logits, leader_logits, attention, target): (P, N, C) or P tensors, (N, C), (N, P, P) with
    rows of sum 1, (N,). Without peers the leader has its labels alone.

    Args:
        temperature: T.
        kd_weight, ce_weight: of the soft targets and the labels.
        aggregate: 'logits', one pass, as in the authors' code; or the paper's 'probabilities'.
        grad_to: where the soft terms' gradient goes besides the learners: 'all', to the attention
            and to the mixed peers, also from the leader's target (the authors' code); 'attention',
            to that alone; 'none', which leaves attention as it was at the start.
        scale_t2, ignore_index: as of `mixture_kl`.
    Source: Chen et al., 2020, "Online Knowledge Distillation with Diverse Peers", equations 5 to 8.

    >>> peers = torch.randn(3, 64, 10, requires_grad=True)
    >>> attention = torch.randn(64, 3, 3, requires_grad=True).softmax(-1)
    >>> leader, target = torch.randn(64, 10), torch.randint(10, (64,))
    >>> OKDDipLoss()(peers, leader, attention, target).backward()
    """

    def __init__(
        self,
        *,
        temperature: float = 3.0,
        kd_weight: float = 1.0,
        ce_weight: float = 1.0,
        aggregate: str = "logits",
        grad_to: str = "all",
        scale_t2: bool = True,
        ignore_index: int = -100,
    ):
        _checks.one_of("OKDDipLoss", "aggregate", aggregate, AGGREGATES)
        _checks.one_of("OKDDipLoss", "grad_to", grad_to, TARGET_GRADS)
        super().__init__(
            temperature=temperature,
            kd_weight=kd_weight,
            ce_weight=ce_weight,
            aggregate=aggregate,
            grad_to=grad_to,
            scale_t2=scale_t2,
            ignore_index=ignore_index,
        )

    def forward(
        self,
        peer_logits: Peers,
        leader_logits: Tensor,
        attention: Tensor | None,
        target: Tensor,
        *,
        return_terms: bool = False,
    ) -> Tensor | tuple[Tensor, Terms]:
        """The loss; terms {'ce': (P + 1,), 'kl': (P + 1,)}, the leader's last."""
        logits = [*peer_logits, leader_logits]
        check_rows("OKDDipLoss", as_batch("OKDDipLoss", logits), target, True, self.ignore_index)
        weights = shares(attention, len(logits) - 1, leader_logits)
        weights = weights.detach() if self.grad_to == "none" else weights
        soft = self.kd_weight if len(logits) > 1 else 0.0
        composed = self.aggregate == "probabilities" and len(logits) > 1
        mixed = self.mixed_probabilities if composed else self.mixed_logits
        loss, terms = mixed(logits, weights, target, soft)
        return (loss, terms) if return_terms else loss

    def mixed_logits(
        self, logits: list[Tensor], weights: Tensor, target: Tensor, soft: float
    ) -> tuple[Tensor, Terms]:
        loss, terms = F.mixture_kl(
            logits,
            target,
            temperature=self.temperature,
            weights=weights,
            kd_weight=soft,
            ce_weight=self.ce_weight,
            ignore_index=self.ignore_index,
            scale_t2=self.scale_t2,
            target_grad=TARGET_GRADS[self.grad_to],
            return_terms=True,
        )
        return loss, {"ce": terms["ce"], "kl": terms["kl"]}

    def mixed_probabilities(
        self, logits: list[Tensor], weights: Tensor, target: Tensor, soft: float
    ) -> tuple[Tensor, Terms]:
        """Composed: T log of each mixture is a teacher's logits, whose softmax at T it is."""
        logs, weights = self.known(logits, weights, target)
        options = {"temperature": self.temperature, "ignore_index": self.ignore_index}
        soft = {"kd_weight": soft, "scale_t2": self.scale_t2}
        live, ce, kl = self.grad_to != "none", [], []
        for a, own in enumerate(logits):
            mixture = self.temperature * mixed_log(logs, weights[..., a, :])
            ce.append(F.kd_loss(own, own.detach(), target, kd_weight=0.0, ce_weight=1.0, **options))
            kl.append(F.kd_loss(own, mixture, target, teacher_grad=live, **soft, **options))
        ce, kl = torch.stack(ce), torch.stack(kl)
        return self.ce_weight * ce.sum() + kl.sum(), {"ce": ce.detach(), "kl": kl.detach()}

    def known(self, logits: list[Tensor], weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The peers' log-probabilities, (..., P, C), and their shares, (..., K, P): detached where
        they are constants, and of rows that do not count nothing."""
        peers = logits[:-1] if self.grad_to == "all" else [x.detach() for x in logits[:-1]]
        counted = (target != self.ignore_index)[..., None]
        wide = accumulation_dtype(logits[-1].dtype)
        peers = [torch.where(counted, x.to(wide), 0) / self.temperature for x in peers]
        logs = torch.stack([x.log_softmax(-1) for x in peers], -2)
        return logs, torch.where(counted[..., None], weights[..., :-1].to(wide), 1 / len(peers))


def shares(attention: Any, count: int, leader: Tensor) -> Tensor:
    """(..., P + 1, P + 1): of every target, the leader's last; the leader has a share in none."""
    lead = tuple(leader.shape[:-1])
    if count == 0:
        return leader.new_ones(1, 1)
    _checks.tensor("OKDDipLoss", "attention", attention)
    if tuple(attention.shape) != (*lead, count, count):
        raise ValueError(
            f"OKDDipLoss: attention must be {(*lead, count, count)}, a row for every peer, "
            f"got shape {tuple(attention.shape)}"
        )
    even = attention.new_full((*lead, 1, count), 1 / count)
    rows = torch.cat([attention, even], -2)
    return torch.cat([rows, rows.new_zeros(*lead, count + 1, 1)], -1)


def mixed_log(logs: Tensor, shares: Tensor) -> Tensor:
    """log sum_b shares_b exp(logs_b), over the last dimension but one of logs."""
    top = logs.detach().amax(-2, keepdim=True).clamp_min(torch.finfo(logs.dtype).min)
    return (shares[..., None] * (logs - top).exp()).sum(-2).log() + top[..., 0, :]
