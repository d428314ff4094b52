"""Losses that no paper proposes, for questions that can only be answered by trying them."""

import torch
from torch import Tensor, nn

from .. import functional as F
from ..methods import Method
from ..methods.online import ONE
from ..taps import Outputs


class SoftEdges(Method):
    """Labels + IRG's edges compared by softmax and cross-entropy in place of squares.

        weight/N sum_i -sum_{j != i} p_ij log q_ij,   q_i = softmax_j(-S_ij / (max(S) T))

    S is the student's map of squared distances, p the teacher's, T the edge_temperature. The
    diagonal, always 0 and so each row's largest, is left out.

    Args:
        layer: whose rows are compared.
        weight: of the term.
        edge_temperature: in units of the largest squared distance.
        options: of `Method`.
    """

    least_rows = 3

    def __init__(
        self,
        layer: str = "embedding",
        *,
        weight: float = 1.0,
        edge_temperature: float = 0.1,
        **options,
    ):
        super().__init__(**options)
        self.layers, self.weight, self.edge_temperature = (layer,), weight, edge_temperature

    def neighbours(self, outputs: Outputs) -> Tensor:
        """(N, N - 1) minus the edges to all others."""
        rows = outputs.features[self.layers[0]].flatten(1)
        edges = F.pairwise_distance(rows, squared=True, normalize="max")
        others = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        return -edges[others].view(len(rows), -1)

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        ours, theirs = self.neighbours(student), self.neighbours(teacher)
        value = F.soft_cross_entropy(
            ours, theirs, temperature=self.edge_temperature, scale_t2=False
        )
        terms["soft edges"] = self.weight * value
        return terms


class RawDistances(Method):
    """Labels + RKD's distances without their normalisation.

        weight/N^2 sum_ij h(d_ij - d'_ij),   d_ij = |x_i - x_j|, h the Huber function

    Args:
        layer: whose rows are compared.
        weight: of the term.
        options: of `Method`.
    """

    least_rows = 2

    def __init__(self, layer: str = "embedding", *, weight: float = 1.0, **options):
        super().__init__(**options)
        self.layers, self.weight = (layer,), weight

    def terms(self, student: Outputs, teacher: Outputs, target: Tensor) -> dict[str, Tensor]:
        terms = super().terms(student, teacher, target)
        maps = (
            F.pairwise_distance(x.features[self.layers[0]].flatten(1)) for x in (student, teacher)
        )
        terms["raw distances"] = self.weight * nn.functional.smooth_l1_loss(*maps)
        return terms


class EvenONE(ONE):
    """ONE with an ensemble of equal weights in place of the gate's."""

    def gate(self, peers: Outputs) -> Tensor:
        first = peers.logits[0]
        return first.new_full((len(first), self.branches), 1 / self.branches)
