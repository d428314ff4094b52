"""OKDDip: peers that attend to each other, and a leader that is taught by all."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ... import _checks
from ...nn import OKDDipLoss, PeerAttention
from ...peers import Group, NetGroup, branch
from ...peers.fresh import MakeNet
from ...taps import Outputs
from ..method import like
from .online import Online, point, summands

BASES = ("branch", "network")


class OKDDip(Online):
    """Labels + weight T^2 (KL of every peer with its attended peers + KL of the leader with all).

    The last of the group, the leader, is deployed; the attention is trained with the peers, by
    their embeddings, through the targets alone.

    Args:
        at: the layer in front of which the net is branched.
        peers: P, besides the leader.
        based: 'branch', peers that share the layers in front of `at`; 'network', whole nets.
        temperature: T, the authors' 3.
        aggregate, grad_to: see `kdops.nn.OKDDipLoss`.
        reduction: of the attention, see `kdops.nn.PeerAttention`.
        embedding: the layer that the attention compares; maps by their means.
        ramp: as of `Online`; 80 epochs in the authors' code.
        options: of `Online`.
    Source: Chen et al., 2020, "Online Knowledge Distillation with Diverse Peers", section 3.
    """

    def __init__(
        self,
        at: str = "branch",
        *,
        peers: int = 3,
        based: str = "branch",
        temperature: float = 3.0,
        aggregate: str = "logits",
        grad_to: str = "all",
        reduction: int = 8,
        embedding: str = "embedding",
        ramp: int | Callable[[int], float] | None = 80,
        **options: Any,
    ):
        super().__init__(temperature=temperature, ramp=ramp, **options)
        _checks.one_of("OKDDip", "based", based, BASES)
        self.at, self.based, self.embedding, self.reduction = at, based, embedding, reduction
        self.layers = (at, embedding) if based == "branch" else (embedding,)
        self.peers = _checks.integer("OKDDip", "peers", peers, 1)
        self.attentions = nn.ModuleList()
        self.loss = OKDDipLoss(
            temperature=self.temperature,
            ce_weight=self.ce_weight,
            aggregate=aggregate,
            grad_to=grad_to,
        )

    def assemble(self, make_net: MakeNet, layers: Mapping[str, str]) -> Group:
        taps, count = {self.embedding: layers.get(self.embedding, self.embedding)}, self.peers + 1
        if self.based == "branch":
            net = make_net(0)
            return branch(net, point(layers, self.at), count, taps, deployed=self.peers)
        return NetGroup(self.made(make_net, range(count)), taps, deployed=self.peers)

    def embeddings(self, peers: Outputs) -> list[Tensor]:
        """(N, D) of every peer but the leader."""
        rows = self.feature(peers, self.embedding)[:-1]
        return [x if x.dim() == 2 else x.flatten(2).mean(2) for x in rows]

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        rows = self.embeddings(student)[0]
        attention = PeerAttention(rows.shape[1], self.reduction)
        self.attentions = nn.ModuleList([like(attention, rows)])

    def terms(self, peers: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        self.check_prepared(self.attentions, 1)
        self.loss.kd_weight = self.soft_weight()
        attention, leader = self.attentions[0](self.embeddings(peers)), peers.logits[-1]
        loss, terms = self.loss(peers.logits[:-1], leader, attention, target, return_terms=True)
        return summands(loss, peers=terms["kl"][:-1].sum(), leader=terms["kl"][-1])
