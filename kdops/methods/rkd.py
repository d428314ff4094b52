"""RKD: distances and angles between the samples of a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .. import functional as F
from ..taps import Outputs
from .method import layer_weights, tapped
from .relation import Relation


class RKD(Relation):
    """Labels + sum over layers of distance_weight rkd_distance_loss + angle_weight rkd_angle_loss.

    Args:
        layers: one layer, the embedding; or several, or shares by layer.
        distance_weight, angle_weight: 25 and 50, common for classification; the paper's metric
            learning has 1 and 2 and no labels. 0 leaves a term out.
        options: of `Relation` and `Method`.
    Source: Park, Kim, Lu, Cho, 2019, "Relational Knowledge Distillation", section 3.
    """

    def __init__(
        self,
        layers: str | Sequence[str] | Mapping[str, float] = "embedding",
        *,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        **options: Any,
    ):
        super().__init__(**options)
        self.shares = layer_weights("RKD", layers)
        self.layers = tapped(self.shares)
        self.distance_weight = self.number("distance_weight", distance_weight)
        self.angle_weight = self.number("angle_weight", angle_weight)
        self.least_rows = 3 if angle_weight else 2

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        losses = {
            "distance": (self.distance_weight, F.rkd_distance_loss),
            "angle": (self.angle_weight, F.rkd_angle_loss),
        }
        for layer, share in self.shares.items():
            rows = self.rows(student, layer), self.rows(teacher, layer)
            for name, (weight, loss) in losses.items():
                if weight:
                    terms[f"{name} {layer}"] = share * weight * loss(*rows, gather=self.gather)
        return terms
