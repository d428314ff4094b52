"""DML: nets that learn from each other's predictions."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ... import _checks
from ...nn import MutualKLLoss
from ...peers import NetGroup
from ...peers.fresh import MakeNet
from ...taps import Outputs
from .online import Online, summands

UPDATES = ("simultaneous", "alternating")


class DML(Online):
    """Labels + weight * mean over the other nets of T^2 KL(p_j || p_i), for each of `count` nets.

    Args:
        count: of nets.
        update: 'alternating', the paper's: one net after the other learns from a batch, from what
            the others then say of it, in as many forward passes as there are nets; 'simultaneous',
            all at once from one forward pass, as most re-implementations do.
        peer_reduction: 'mean' over the other nets, the paper's, or the authors' code's 'sum'.
        temperature: T, the paper's 1.
        detach_peers: as of `kdops.nn.MutualKLLoss`.
        own_images: whether every net sees its own augmentation of the images.
        options: of `Online`.
    Source: Zhang, Xiang, Hospedales, Lu, 2018, "Deep Mutual Learning", section 3.
    """

    def __init__(
        self,
        *,
        count: int = 2,
        update: str = "simultaneous",
        peer_reduction: str = "mean",
        temperature: float = 1.0,
        detach_peers: bool = True,
        own_images: bool = False,
        **options: Any,
    ):
        super().__init__(temperature=temperature, **options)
        self.count = _checks.integer("DML", "count", count, 1)
        _checks.one_of("DML", "update", update, UPDATES)
        self.turns = count if update == "alternating" else 1
        self.own_images, self.separable = own_images, detach_peers and self.turns == 1
        self.loss = MutualKLLoss(
            temperature=self.temperature,
            peer_reduction=peer_reduction,
            ce_weight=self.ce_weight,
            detach_peers=detach_peers,
        )

    def assemble(self, make_net: MakeNet, layers: Mapping[str, str]) -> NetGroup:
        nets = self.made(make_net, range(self.count))
        return NetGroup(nets, layers, own_images=self.own_images)

    def terms(self, peers: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        """
        Raises:
            RuntimeError: for 'alternating' nets where it is nobody's turn.
        """
        if self.turns > 1 and self.turn is None:
            raise RuntimeError("DML: set turn, and the group's active, to a net's number first")
        self.loss.kd_weight = self.soft_weight()
        losses, terms = self.loss(peers.logits, target, student=self.turn, return_terms=True)
        return summands(losses.sum(), peers=terms["kl"].sum())
