"""Probabilities of neighbours: PKT of one layer, HKD's information flow of several; and SP."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .. import functional as F
from ..functional._rows import widened
from ..nn import InformationFlowLoss
from ..schedules import CriticalPeriod
from ..taps import Outputs
from .method import layer_weights, tapped, try_options
from .relation import Relation


class PKT(Relation):
    """Labels + weight * pkt_loss, summed over layers.

    Args:
        layers: one layer, the embedding; or several, or shares by layer.
        weight: of the 'batchmean' reduction: the published 3e4 of a mean over N^2 is 470 at N = 64.
        kernel, divergence, include_self, eps: see `kdops.pkt_loss`.
        options: of `Relation` and `Method`.
    Source: Passalis, Tefas, 2018, "Learning Deep Representations with Probabilistic Knowledge
        Transfer", section 3.
    """

    def __init__(
        self,
        layers: str | Sequence[str] | Mapping[str, float] = "embedding",
        *,
        weight: float = 470.0,
        kernel: str = "cosine",
        divergence: str = "kl",
        include_self: bool = True,
        eps: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.shares, self.weight = layer_weights("PKT", layers), self.number("weight", weight)
        self.layers = tapped(self.shares)
        self.kernel: dict[str, Any] = {
            "kernel": kernel,
            "divergence": divergence,
            "include_self": include_self,
            "eps": eps,
        }
        try_options(F.pkt_loss, (2, 1), **self.kernel)

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        for layer, share in self.shares.items():
            rows = self.rows(student, layer), self.rows(teacher, layer)
            value = F.pkt_loss(*rows, gather=self.gather, **self.kernel)
            terms[f"neighbours {layer}"] = self.weight * share * value
        return terms


class HKD(Relation):
    """The information flow through several layers, hidden ones for a critical period alone.

        weight * sum_l schedule_l(epoch) (pkt_loss with cosine + pkt_loss with Student-t, Jeffreys)

    Layer l of the student is guided by layer l of the teacher, which therefore is an auxiliary one
    of the student's depth, twice as wide, that learned from the real teacher by its last layer
    (the same loss with one layer). `kdops.nn.match_layers` pairs layers of other networks.

    Args:
        layers: from the first on; the last one keeps its weight.
        weight: of the sum; 'mean' reductions.
        schedule: from (epoch, number of layers) to weights; the paper's by default.
        unit_scale: divides each side's rows by their mean length, a constant for the gradient,
            which keeps the Student-t kernel from saturating; the published code does not.
        kernels, divergence, include_self, eps: of `kdops.nn.InformationFlowLoss`.
        options: of `Relation` and `Method`; the paper has no labels, ce_weight is 0.
    Source: Passalis, Tzelepi, Tefas, 2020, "Heterogeneous Knowledge Distillation using Information
        Flow Modeling", section 3.
    """

    def __init__(
        self,
        layers: str | Sequence[str] = ("early", "middle", "embedding", "logits"),
        *,
        weight: float = 1.0,
        schedule: CriticalPeriod | None = None,
        unit_scale: bool = False,
        kernels: Sequence[str] = ("cosine", "student_t"),
        divergence: str = "jeffreys",
        include_self: bool = True,
        eps: float = 0.0,
        ce_weight: float = 0.0,
        **options: Any,
    ):
        super().__init__(ce_weight=ce_weight, **options)
        self.flow, self.weight = tuple(layer_weights("HKD", layers)), self.number("weight", weight)
        self.layers = tapped(self.flow)
        self.schedule, self.unit_scale = schedule or CriticalPeriod(), unit_scale
        options = {"divergence": divergence, "include_self": include_self, "eps": eps}
        for kernel in kernels:
            try_options(F.pkt_loss, (2, 1), kernel=kernel, **options)
        self.loss = InformationFlowLoss(kernels=kernels, **options, gather=self.gather)

    def rows(self, outputs: Outputs | None, layer: str) -> Tensor:
        rows = super().rows(outputs, layer)
        if not self.unit_scale:
            return rows
        rows = widened(rows)
        return rows / rows.detach().norm(dim=1).mean().clamp_min(1e-30)

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        sides = [[self.rows(side, layer) for layer in self.flow] for side in (student, teacher)]
        weights = self.schedule(self.epoch, len(self.flow))
        terms["flow"] = self.weight * self.loss(*sides, weights)
        return terms


class SP(Relation):
    """Labels + weight * sp_loss, summed over layers.

    Args:
        layers: one layer; or several, or shares by layer.
        weight: the published 3000.
        options: of `Relation` and `Method`; the published code flattens feature maps.
    Source: Tung, Mori, 2019, "Similarity-Preserving Knowledge Distillation", section 3.
    """

    def __init__(
        self,
        layers: str | Sequence[str] | Mapping[str, float] = "middle",
        *,
        weight: float = 3000.0,
        pooling: str = "flatten",
        **options: Any,
    ):
        super().__init__(pooling=pooling, **options)
        self.shares, self.weight = layer_weights("SP", layers), self.number("weight", weight)
        self.layers = tapped(self.shares)

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        for layer, share in self.shares.items():
            rows = self.rows(student, layer), self.rows(teacher, layer)
            terms[f"similarity {layer}"] = (
                self.weight * share * F.sp_loss(*rows, gather=self.gather)
            )
        return terms
