"""Losses of what the samples of a batch are to each other."""

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from ... import functional
from .._zoos import maps, relations


class RKD(nn.Module):
    """w_dist times the distance loss plus w_angle times the angle loss of (N, D) features.

    Squared distances and lengths have the lower bound 1e-12.
    Other than in the zoo a batch of one sample gives 0, not NaN, and equal samples have a finite
    gradient.
    Clean form: `kdops.nn.RKDLoss(w_dist, w_angle)`.
    Source: Park, Kim, Lu, Cho, 2019, "Relational Knowledge Distillation".
    """

    def __init__(self, w_dist: float, w_angle: float) -> None:
        super().__init__()
        self.w_dist, self.w_angle = w_dist, w_angle

    def forward(self, feat_s: Tensor, feat_t: Tensor) -> Tensor:
        return relations.rkd(feat_s, feat_t, self.w_dist, self.w_angle, teacher_grad=True)


class PKTCosSim(nn.Module):
    """1 / N^2 sum p log((p + eps) / (q + eps)), p and q (1 + cosine) / 2 over their rows' sums.

    eps is 1e-6, where the authors and the other peers have 1e-7.
    Other than in the zoo a zero row has a finite gradient, not NaN, but of the order of 1 / eps:
    the clean form gives it 0. NaN stays NaN.
    Clean form: `kdops.pkt_loss(feat_s, feat_t)`, N times the value.
    Source: Passalis, Tefas, 2018, "Learning Deep Representations with Probabilistic Knowledge
        Transfer", section 3.
    """

    def forward(self, feat_s: Tensor, feat_t: Tensor, eps: float = 1e-6) -> Tensor:
        return relations.pkt(feat_s, feat_t, eps)


class SP(nn.Module):
    """Mean of (G_s - G_t)^2, rows of the Gram matrices G of length 1.

    Clean form: `kdops.sp_loss(fm_s.flatten(1), fm_t.flatten(1))`.
    Source: Tung, Mori, 2019, "Similarity-Preserving Knowledge Distillation", section 3.1.
    """

    def forward(self, fm_s: Tensor, fm_t: Tensor) -> Tensor:
        return relations.similarity("SP", fm_s, fm_t)


class CC(nn.Module):
    """Mean of (K_s - K_t)^2, K the Taylor expansion of exp(-gamma |x - y|^2) of unit rows.

    Orders up to 8.
    Clean form: `kdops.cckd_loss(feat_s, feat_t, gamma=gamma, order=P_order)`.
    Source: Peng et al., 2019, "Correlation Congruence for Knowledge Distillation", section 3.3.
    """

    def __init__(self, gamma: float, P_order: int) -> None:  # noqa: N803
        super().__init__()
        self.gamma, self.P_order = gamma, P_order

    def forward(self, feat_s: Tensor, feat_t: Tensor) -> Tensor:
        return functional.cckd_loss(
            feat_s, feat_t, gamma=self.gamma, order=self.P_order, teacher_grad=True
        )


def _change(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps brought to one size: the first averaged over cells, the second over channels."""
    if first.shape[2] > second.shape[2]:
        first = F.adaptive_avg_pool2d(first, (second.shape[2], second.shape[3]))
    if first.shape[1] < second.shape[1]:
        second = (second[:, 0::2] + second[:, 1::2]) / 2
    return first.flatten(1), second.flatten(1)


class IRG(nn.Module):
    """w_irg_vert V + w_irg_edge E + w_irg_tran T of [first map, second map, features, logits].

        V  mean squared error of the logits
        E  mean over the three other layers of mean (S_s / max(S_s) - S_t / max(S_t))^2, S squared
           distances
        T  mean (u_s - u_t)^2, u = |a - b|^2 over its maximum, a and b the two maps

    For T the first map is averaged to the second's height and width, and where the second has more
    channels each two of them are averaged: only nets that double their channels have a T. All
    maxima take part in the gradient, the authors' Caffe layers take them as constants. The
    transformation of edges is not there. The first two layers are feature maps.
    Other than in the zoo a batch of one sample gives E = 0, not NaN.
    Clean forms: `kdops.irg_edge_loss`, `kdops.irg_transform_loss`, `kdops.hint_loss`.
    Source: Liu et al., 2019, "Knowledge Distillation via Instance Relationship Graph", section 3.
    """

    def __init__(self, w_irg_vert: float, w_irg_edge: float, w_irg_tran: float) -> None:
        super().__init__()
        self.w_irg_vert, self.w_irg_edge, self.w_irg_tran = w_irg_vert, w_irg_edge, w_irg_tran

    def forward(self, irg_s: Iterable[Tensor], irg_t: Iterable[Tensor]) -> Tensor:
        *layers_s, out_s = irg_s
        *layers_t, out_t = irg_t
        for ours, theirs in zip(layers_s[:2], layers_t[:2], strict=True):
            maps.checked("IRG", ours, theirs)
        edges = [
            functional.irg_edge_loss(*relations.both_rows("IRG", *pair), teacher_grad=True)
            for pair in zip(layers_s, layers_t, strict=True)
        ]
        change = functional.irg_transform_loss(
            _change(*layers_s[:2]), _change(*layers_t[:2]), teacher_grad=True
        )
        return (
            self.w_irg_vert * maps.squared_error(out_s, out_t)
            + self.w_irg_edge * sum(edges) / len(edges)
            + self.w_irg_tran * change
        )
