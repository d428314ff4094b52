"""Codistillation's loss: labels, and what stale copies of the peers say of one's own batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _checks
from .. import functional as F
from ..functional._rows import widened
from .options import Options

KINDS = ("kl", "ce", "mse_logits")


class CodistillationLoss(Options):
    """ce_weight CE(z, y) + w(step) psi(z, the peers' z_j), called with (logits, peer_logits, ...).

    With p_j = softmax(z_j / T) and n peers, psi is by `kind`

        'kl'          T^2 / n sum_j KL(p_j || p)
        'ce'          T^2 CE(mean_j p_j, p), the paper's: the same gradient, and a value that is
                      higher by T^2 / n sum_j H(p_j)
        'mse_logits'  the mean over rows and classes of (z - mean_j z_j)^2

    w(step) is 0 before `burn_in_steps`, from where it grows linearly to kd_weight in
    `weight_ramp_steps`. Without a peer there is the labels' term alone.

    Args:
        temperature: T; the paper's 1.
        kind: psi.
        kd_weight: of psi.
        ce_weight: of the labels.
        burn_in_steps: in which the peers are not listened to.
        weight_ramp_steps: after these; 0: the whole weight at once.
        ignore_index: a row with this target counts nowhere.
        scale_t2: whether psi carries T^2.
    Source: Anil, Pereyra, Passos, Ormandi, Dahl, Hinton, 2018, "Large scale distributed neural
        network training through online distillation", section 2, algorithm 1.

    >>> loss = CodistillationLoss(burn_in_steps=1000)
    >>> loss(net(images), bank.predict(images), labels, step=step).backward()
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        kind: str = "kl",
        kd_weight: float = 1.0,
        ce_weight: float = 1.0,
        burn_in_steps: int = 0,
        weight_ramp_steps: int = 0,
        ignore_index: int = -100,
        scale_t2: bool = True,
    ):
        name = "CodistillationLoss"
        _checks.one_of(name, "kind", kind, KINDS)
        super().__init__(
            temperature=_checks.temperature(name, temperature),
            kind=kind,
            kd_weight=_checks.number(name, "kd_weight", kd_weight, low=0),
            ce_weight=_checks.number(name, "ce_weight", ce_weight, low=0),
            burn_in_steps=_checks.integer(name, "burn_in_steps", burn_in_steps),
            weight_ramp_steps=_checks.integer(name, "weight_ramp_steps", weight_ramp_steps),
            ignore_index=ignore_index,
            scale_t2=scale_t2,
        )

    def weight(self, step: int | None) -> float:
        """w(step), steps counted from 0; None: after all of the ramp."""
        if step is None:
            return self.kd_weight
        done = _checks.integer("CodistillationLoss", "step", step) - self.burn_in_steps
        if done < 0:
            return 0.0
        return self.kd_weight * min(1.0, (done + 1) / (self.weight_ramp_steps + 1))

    def forward(
        self,
        logits: Tensor,
        peer_logits: Tensor | Sequence[Tensor] | None,
        target: Tensor | None = None,
        *,
        step: int | None = None,
        return_terms: bool = False,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The loss, a scalar.

        Args:
            logits: (N, C) of the net that learns.
            peer_logits: (n, N, C), or n of (N, C), constants; none at all is allowed.
            target: (N,) labels; needed for ce_weight != 0.
            step: for burn-in and ramp.
            return_terms: whether {'ce': CE(z, y), 'peers': w psi} is returned too.
        """
        weight = self.weight(step)
        peers = [] if peer_logits is None or weight == 0 else [x.detach() for x in peer_logits]
        by_kl = self.kind != "mse_logits"
        share = weight / len(peers) if peers and by_kl else 0.0
        count = 1 + len(peers)
        (loss, *_), terms = F.mutual_kl(
            [logits, *peers],
            target,
            temperature=self.temperature,
            weights=[[0.0] + [share] * len(peers)] + [[0.0] * count] * len(peers),
            ce_weight=[self.ce_weight] + [0.0] * len(peers),
            ignore_index=self.ignore_index,
            scale_t2=self.scale_t2,
            return_terms=True,
        )
        soft = terms["kl"][0]
        if peers and self.kind != "kl":
            more = weight * (self._entropy if by_kl else self._distance)(logits, peers, target)
            loss, soft = loss + more, soft + more.detach()
        return (loss, {"ce": terms["ce"][0], "peers": soft}) if return_terms else loss

    def _entropy(self, logits: Tensor, peers: list[Tensor], target: Tensor | None) -> Tensor:
        """T^2 times the mean of the peers' entropies."""
        p = [(widened(x) / self.temperature).softmax(-1) for x in peers]
        rows = torch.stack([torch.special.entr(x).sum(-1) for x in p]).mean(0)
        return (self.temperature**2 if self.scale_t2 else 1.0) * self._mean(rows, target)

    def _distance(self, logits: Tensor, peers: list[Tensor], target: Tensor | None) -> Tensor:
        counted = self._counted(logits[..., 0], target)[..., None]
        mean = torch.stack([widened(x) for x in peers]).mean(0)
        own, mean = (torch.where(counted, x, 0.0) for x in (logits, mean))
        return 2 * self._mean(F.hint_loss(own, mean, reduction="none").mean(-1), target)

    def _mean(self, rows: Tensor, target: Tensor | None) -> Tensor:
        """Over the rows that count."""
        counted = self._counted(rows, target)
        return torch.where(counted, rows, 0.0).sum() / counted.sum().clamp(min=1)

    def _counted(self, rows: Tensor, target: Tensor | None) -> Tensor:
        every = torch.ones_like(rows, dtype=torch.bool)
        return every if target is None else target != self.ignore_index
