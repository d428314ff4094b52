"""CCKD: correlations between the samples of a batch."""

from typing import Any

import torch
from torch import Tensor, nn

from .. import functional as F
from ..functional._rows import widened
from ..taps import Outputs
from .method import like, tapped, try_options
from .relation import Relation


class CCKD(Relation):
    """Labels and soft targets + weight * cckd_loss of an embedding.

    Args:
        layer: whose rows are correlated.
        weight: of the 'mean' reduction; the paper's beta, 0.003, belongs to another one.
        kernel, gamma, order, normalize: see `kdops.cckd_loss`.
        projection: dimensions to which linear maps bring both embeddings first, 128 in published
            code. The student's is trained, the teacher's stays as drawn: trained, both would find
            the constant map, for which the loss is 0.
        options: of `Relation` and `Method`.
    Source: Peng et al., 2019, "Correlation Congruence for Knowledge Distillation", section 3. The
        paper's batches are drawn by classes, see `kdops.samplers`.
    """

    def __init__(
        self,
        layer: str = "embedding",
        *,
        weight: float = 100.0,
        kernel: str = "rbf",
        gamma: float = 0.4,
        order: int | None = 2,
        normalize: bool = True,
        projection: int | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        self.layer, self.layers = layer, tapped([layer])
        self.weight, self.projection = self.number("weight", weight), projection
        self.kernel: dict[str, Any] = {
            "kernel": kernel,
            "gamma": gamma,
            "order": order,
            "normalize": normalize,
        }
        try_options(F.cckd_loss, (2, 1), **self.kernel)
        if projection is not None and projection < 1:
            raise ValueError(f"CCKD: projection must be >= 1, got {projection}")
        self.maps = nn.ModuleList()  # of the student, of the teacher

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        if self.projection is None:
            return
        rows = [self.rows(side, self.layer) for side in (student, teacher)]
        self.maps = nn.ModuleList(like(nn.Linear(x.shape[1], self.projection), x) for x in rows)
        self.maps[1].requires_grad_(False)

    def embeddings(self, student: Outputs, teacher: Outputs | None) -> tuple[Tensor, Tensor]:
        ours, theirs = self.rows(student, self.layer), self.rows(teacher, self.layer)
        if self.projection is None:
            return ours, theirs
        self.check_prepared(self.maps, 2)
        with torch.no_grad():
            theirs = self.maps[1](widened(theirs))
        return self.maps[0](widened(ours)), theirs

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        value = F.cckd_loss(*self.embeddings(student, teacher), gather=self.gather, **self.kernel)
        terms["correlation"] = self.weight * value
        return terms
