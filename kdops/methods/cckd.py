"""CCKD: correlations between the samples of a batch."""

import torch
from torch import Tensor, nn

from .. import functional as F
from ..taps import Outputs
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
        **options,
    ):
        super().__init__(**options)
        self.layers, self.weight, self.projection = (layer,), weight, projection
        self.kernel = {"kernel": kernel, "gamma": gamma, "order": order, "normalize": normalize}
        self.student_map, self.teacher_map = nn.Identity(), nn.Identity()

    def prepare(self, student: Outputs, teacher: Outputs) -> None:
        if self.projection is None:
            return
        for name, side in (("student_map", student), ("teacher_map", teacher)):
            rows = self.rows(side, self.layers[0])
            linear = nn.Linear(rows.shape[1], self.projection, device=rows.device)
            setattr(self, name, linear.requires_grad_(name == "student_map"))

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        ours = self.student_map(self.rows(student, self.layers[0]))
        with torch.no_grad():
            theirs = self.teacher_map(self.rows(teacher, self.layers[0]))
        value = F.cckd_loss(ours, theirs, gather=self.gather, **self.kernel)
        terms["correlation"] = self.weight * value
        return terms
