"""DCM: nets with auxiliary heads, each of which learns from all heads of the other nets."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ... import _checks
from ...nn import DenseMutualLoss
from ...peers import MultiHeadGroup, attach_aux_heads
from ...peers.fresh import MakeNet
from ...peers.heads import Builder
from ...taps import Outputs
from .online import Online, point, summands


class DCM(Online):
    """Labels of every head + weight T^2 sum KL(p_j || p_i) over the heads j of the other nets.

    In front of each layer of `at` a net gets an auxiliary head, the rest of the net once more; the
    last head is the net's own, the one that is deployed.

    Args:
        at: the layers in front of which the heads are.
        count: of nets; they need not be alike, if their layers have the same names.
        builder: changes a head, shortens or widens it, see `kdops.peers.attach_aux_heads`; the
            authors' heads are shorter or twice as wide.
        mask, alpha: see `kdops.nn.DenseMutualLoss`.
        temperature: T, the authors' 1.
        own_images: whether every net sees its own augmentation of the images.
        options: of `Online`; weight is the paper's beta.
    Source: Yao, Sun, 2020, "Knowledge Transfer via Dense Cross-Layer Mutual-Distillation", section
        3.
    """

    def __init__(
        self,
        at: Sequence[str] = ("branch", "embedding"),
        *,
        count: int = 2,
        builder: Builder | None = None,
        mask: Sequence[Sequence[float]] | None = None,
        alpha: float = 1.0,
        temperature: float = 1.0,
        own_images: bool = False,
        **options: Any,
    ):
        super().__init__(temperature=temperature, **options)
        self.at = self.layers = (at,) if isinstance(at, str) else tuple(at)
        self.count = _checks.integer("DCM", "count", count, 1)
        self.builder, self.own_images = builder, own_images
        heads = len(self.at) + 1
        self.loss = DenseMutualLoss(
            [i for i in range(count) for _ in range(heads)],
            mask=mask,
            alpha=alpha,
            ce_weight=self.ce_weight,
            temperature=self.temperature,
        )

    def assemble(self, make_net: MakeNet, layers: Mapping[str, str]) -> MultiHeadGroup:
        points = [point(layers, name) for name in self.at]
        nets = self.made(make_net, range(self.count))
        nets = [attach_aux_heads(net, points, self.builder) for net in nets]
        return MultiHeadGroup(nets, own_images=self.own_images)

    def terms(self, peers: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        self.loss.beta = self.soft_weight()
        loss, terms = self.loss(peers.logits, target, return_terms=True)
        return summands(loss, peers=terms["kl"].sum())
