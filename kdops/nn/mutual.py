"""Losses of peers that learn from each other one by one: DML, and DCM with several heads a net."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _checks
from .. import functional as F
from ..functional._peers import Peers, as_batch
from .options import Options

PEER_REDUCTIONS = ("mean", "sum")
Terms = dict[str, Tensor]


class MutualKLLoss(Options):
    """DML: the loss of peer i is ce_weight CE(z_i) + kd_weight sum_j w T^2 KL(p_j || p_i).

    w = 1 / (K - 1), the paper's mean over the other peers, or 1, the sum of the authors' code; the
    same for two peers. Called with (logits, target=None), the K peers' logits.

    Args:
        temperature: T; the paper's 1.
        peer_reduction: 'mean' or 'sum', over the other peers.
        kd_weight: of the KLs.
        ce_weight: of the labels.
        ignore_index, scale_t2: as of `mutual_kl`.
        detach_peers: whether the other peers are constants, as in the paper; re-implementations
            that forget it pull every peer to those that learn from it, too.
    Source: Zhang, Xiang, Hospedales, Lu, 2018, "Deep Mutual Learning", equations 4 to 8.

    >>> peers = [torch.randn(64, 10, requires_grad=True) for _ in range(3)]
    >>> MutualKLLoss()(peers, torch.randint(10, (64,))).sum().backward()
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        peer_reduction: str = "mean",
        kd_weight: float = 1.0,
        ce_weight: float = 1.0,
        ignore_index: int = -100,
        scale_t2: bool = True,
        detach_peers: bool = True,
    ):
        _checks.one_of("MutualKLLoss", "peer_reduction", peer_reduction, PEER_REDUCTIONS)
        super().__init__(
            temperature=temperature,
            peer_reduction=peer_reduction,
            kd_weight=_checks.number("MutualKLLoss", "kd_weight", kd_weight, low=0),
            ce_weight=ce_weight,
            ignore_index=ignore_index,
            scale_t2=scale_t2,
            detach_peers=detach_peers,
        )

    def forward(
        self,
        logits: Peers,
        target: Tensor | None = None,
        *,
        student: int | None = None,
        return_terms: bool = False,
    ) -> Tensor | tuple[Tensor, Terms]:
        """(K,) losses; of `student` alone a scalar: the others then are constants and unpaid."""
        count = as_batch("MutualKLLoss", logits).count
        weights, ce_weight = self.weights(count), [self.ce_weight] * count
        if student is not None:
            _checks.integer("MutualKLLoss", "student", student, 0, count - 1)
            logits = [x if i == student else x.detach() for i, x in enumerate(logits)]
            ce_weight = [w * (i == student) for i, w in enumerate(ce_weight)]
            weights = weights and [[w * (i == student) for w in r] for i, r in enumerate(weights)]
        losses, terms = F.mutual_kl(
            logits,
            target,
            temperature=self.temperature,
            weights=weights,
            ce_weight=ce_weight,
            ignore_index=self.ignore_index,
            scale_t2=self.scale_t2,
            peer_grad=not self.detach_peers,
            return_terms=True,
        )
        if student is not None:
            losses, terms = losses[student], {name: x[student] for name, x in terms.items()}
        return (losses, terms) if return_terms else losses

    def weights(self, count: int) -> list[list[float]] | None:
        """Of the KLs; None for a single peer, which has none."""
        if count == 1:
            return None
        w = self.kd_weight / (count - 1 if self.peer_reduction == "mean" else 1)
        return [[w * (i != j) for j in range(count)] for i in range(count)]


class DenseMutualLoss(Options):
    """DCM: several heads a net, and each learns from all heads of the other nets.

        sum_i a_i CE(z_i) + beta sum_ij mask_ij T^2 KL(p_j || p_i)

    a_i is 1 for the last head of its net, the one that is deployed, and alpha for the others.
    Called with (logits, target), the K heads' logits; a scalar.

    Args:
        groups: the number of the net of each head, in the order of the logits.
        mask: (K, K), whether head i learns from head j, or weights >= 0. None: all pairs of
            different nets, heads of one stage and of different ones.
        alpha: of the auxiliary heads' labels; the paper's 1.
        beta: of the KLs; the paper's 1.
        ce_weight: a further factor of all labels.
        temperature: T; the authors' code has 1.
        ignore_index, scale_t2: as of `mutual_kl`.
    Source: Yao, Sun, 2020, "Knowledge Transfer via Dense Cross-Layer Mutual-Distillation",
        equation 5, and its code, where alpha = beta = T = 1.

    >>> heads = torch.randn(4, 64, 10, requires_grad=True)
    >>> DenseMutualLoss([0, 0, 1, 1])(heads, torch.randint(10, (64,))).backward()
    """

    def __init__(
        self,
        groups: Sequence[int],
        *,
        mask: Sequence[Sequence[float]] | Tensor | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        ce_weight: float = 1.0,
        temperature: float = 1.0,
        ignore_index: int = -100,
        scale_t2: bool = True,
    ):
        groups = [_checks.integer("DenseMutualLoss", "groups", group) for group in groups]
        if mask is None:
            mask = [[float(i != j) for j in groups] for i in groups]
        mask = torch.as_tensor(mask, dtype=torch.float64).tolist()
        if len(mask) != len(groups) or any(len(row) != len(groups) for row in mask):
            raise ValueError(
                f"DenseMutualLoss: mask must be {len(groups)} x {len(groups)}, a row for each of "
                f"groups' heads, got {mask}"
            )
        super().__init__(
            groups=groups,
            mask=mask,
            alpha=_checks.number("DenseMutualLoss", "alpha", alpha, low=0),
            beta=_checks.number("DenseMutualLoss", "beta", beta, low=0),
            ce_weight=_checks.number("DenseMutualLoss", "ce_weight", ce_weight, low=0),
            temperature=temperature,
            ignore_index=ignore_index,
            scale_t2=scale_t2,
        )

    def forward(
        self, logits: Peers, target: Tensor, *, return_terms: bool = False
    ) -> Tensor | tuple[Tensor, Terms]:
        count = as_batch("DenseMutualLoss", logits).count
        if count != len(self.groups):
            raise ValueError(
                f"DenseMutualLoss: logits must be those of groups' {len(self.groups)} heads, "
                f"got {count}"
            )
        losses, terms = F.mutual_kl(
            logits,
            target,
            temperature=self.temperature,
            weights=[[self.beta * w for w in row] for row in self.mask],
            ce_weight=self.ce_weights(),
            ignore_index=self.ignore_index,
            scale_t2=self.scale_t2,
            return_terms=True,
        )
        return (losses.sum(), terms) if return_terms else losses.sum()

    def ce_weights(self) -> list[float]:
        last = {group: i for i, group in enumerate(self.groups)}
        shares = [1.0 if last[group] == i else self.alpha for i, group in enumerate(self.groups)]
        return [self.ce_weight * share for share in shares]
