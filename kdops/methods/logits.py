"""Relatives of Hinton's distillation that compare logits in another way."""

from typing import Any

from torch import Tensor

from .. import functional as F
from ..taps import Outputs
from .method import Method


def logit_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """mean (z - z')^2 of raw logits."""
    return 2 * F.hint_loss(student, teacher, reduction="mean")  # which has 1/2


class DKD(Method):
    """Labels + dkd_loss, with a warm-up of its weight.

    Args:
        target_weight, rest_weight, temperature: see `kdops.dkd_loss`.
        warmup: epochs over which the loss's weight grows to 1; the published 20.
        options: of `Method`.
    Source: Zhao, Cui, Song, Qiu, Liang, 2022, "Decoupled Knowledge Distillation", section 3.
    """

    def __init__(
        self,
        *,
        target_weight: float = 1.0,
        rest_weight: float = 8.0,
        warmup: int = 20,
        **options: Any,
    ):
        super().__init__(**options)
        self.target_weight = self.number("target_weight", target_weight)
        self.rest_weight = self.number("rest_weight", rest_weight)
        self.warmup = self.number("warmup", warmup)

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        weight = min(1.0, (self.epoch + 1) / self.warmup) if self.warmup else 1.0
        terms["decoupled"] = weight * F.dkd_loss(
            *self.pair(student, teacher, "logits"),
            target,
            temperature=self.temperature,
            target_weight=self.target_weight,
            rest_weight=self.rest_weight,
        )
        return terms


class DIST(Method):
    """Labels + weight * dist_loss.

    Args:
        weight: the published 2.
        inter_weight, intra_weight, temperature: see `kdops.dist_loss`.
        options: of `Method`.
    Source: Huang, You, Wang, Qian, Xu, 2022, "Knowledge Distillation from a Stronger Teacher".
    """

    def __init__(
        self,
        *,
        weight: float = 2.0,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        temperature: float = 1.0,
        **options: Any,
    ):
        super().__init__(temperature=temperature, **options)
        self.weight = self.number("weight", weight)
        self.inter_weight = self.number("inter_weight", inter_weight)
        self.intra_weight = self.number("intra_weight", intra_weight)

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        terms["correlation"] = self.weight * F.dist_loss(
            *self.pair(student, teacher, "logits"),
            temperature=self.temperature,
            inter_weight=self.inter_weight,
            intra_weight=self.intra_weight,
        )
        return terms


class StandardizedKD(Method):
    """Labels + weight T^2 KL of logits with mean 0 and deviation 1.

    Args:
        weight: the published 9.
        temperature: the published 2.
        eps: added to the deviation; the published 1e-7.
        options: of `Method`.
    Source: Sun, Ren, Li, Wang, Cao, 2024, "Logit Standardization in Knowledge Distillation".
    """

    def __init__(
        self, *, weight: float = 9.0, temperature: float = 2.0, eps: float = 0.0, **options: Any
    ):
        super().__init__(temperature=temperature, **options)
        self.weight, self.eps = self.number("weight", weight), self.number("eps", eps)

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        pair = self.pair(student, teacher, "logits")
        pair = (F.standardize_logits(x, eps=self.eps) for x in pair)
        terms["standardized"] = self.weight * F.kd_loss(*pair, temperature=self.temperature)
        return terms


class LogitMatching(Method):
    """Labels + weight mean (z - z')^2 of the raw logits: the limit of soft targets for T -> inf.

    Args:
        weight: of the squared difference.
        options: of `Method`.
    Source: Ba, Caruana, 2014, "Do Deep Nets Really Need to be Deep?"; Hinton, Vinyals, Dean, 2015,
        section 2.1.
    """

    def __init__(self, *, weight: float = 0.1, **options: Any):
        super().__init__(**options)
        self.weight = self.number("weight", weight)

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        distance = logit_distance(*self.pair(student, teacher, "logits"))
        terms["distance"] = self.weight * distance
        return terms
