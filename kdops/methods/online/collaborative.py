"""Collaborative Learning: heads on a tree of shared layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ... import _checks
from ...nn import CollaborativeLoss
from ...peers import HeadTree
from ...peers.fresh import MakeNet
from ...taps import Outputs
from .online import Online, point, summands


class Collaborative(Online):
    """beta labels + weight (1 - beta) KL(mean of the other heads' logits || own), for every head.

    The heads are the leaves of a tree: the net is forked in front of each layer of `at`. Where
    `rescale`, what is in front of a fork gets the mean of its children's gradients.

    Args:
        at: the layers in front of which the net is forked.
        fanout: children of each fork; their product is the number of heads.
        rescale: whether forks take the mean of the gradients, and not their sum.
        beta, temperature, scale_t2, divergence, detach_target: see `kdops.nn.CollaborativeLoss`.
        options: of `Online`; ce_weight and weight are factors besides beta and 1 - beta.
    Source: Song, Chai, 2018, "Collaborative Learning for Deep Neural Networks", section 3.
    """

    def __init__(
        self,
        at: Sequence[str] = ("branch", "embedding"),
        *,
        fanout: int | Sequence[int] = (2, 2),
        rescale: bool = True,
        beta: float = 0.5,
        temperature: float = 2.0,
        scale_t2: bool = False,
        divergence: str = "kl",
        detach_target: bool = True,
        **options: Any,
    ):
        super().__init__(temperature=temperature, **options)
        self.at = self.layers = (at,) if isinstance(at, str) else tuple(at)
        fanout = (fanout,) if isinstance(fanout, int) else fanout
        self.fanout = tuple(
            _checks.integer("Collaborative", f"fanout[{i}]", children, low=1)
            for i, children in enumerate(fanout)
        )
        if len(self.fanout) != len(self.at):
            raise ValueError(
                f"Collaborative: fanout must have a number for each layer of at, got {self.fanout} "
                f"for {self.at}"
            )
        self.rescale = rescale
        self.loss = CollaborativeLoss(
            beta=beta,
            temperature=self.temperature,
            divergence=divergence,
            ce_weight=self.ce_weight,
            scale_t2=scale_t2,
            detach_target=detach_target,
        )

    def assemble(self, make_net: MakeNet, layers: Mapping[str, str]) -> HeadTree:
        points = [point(layers, name) for name in self.at]
        return HeadTree.of(make_net(0), points, self.fanout, rescale=self.rescale)

    def terms(self, peers: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        self.loss.kd_weight = self.soft_weight()
        loss, terms = self.loss(peers.logits, target, return_terms=True)
        return summands(loss, peers=terms["kl"].sum())
