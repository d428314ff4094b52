"""Losses of what the samples of a batch are to each other."""

from collections.abc import Iterable
from typing import Literal

from torch import Tensor

from .._zoos import relations


def rkd_loss(
    f_s: Tensor,
    f_t: Tensor,
    squared: bool = False,
    eps: float = 1e-12,
    distance_weight: float = 25,
    angle_weight: float = 50,
) -> Tensor:
    """The weighted sum of RKD's distance and angle losses of flattened features.

    `squared` takes squared distances in the first, which the paper has not; eps is the lower bound
    of squared distances. The teacher gets no gradient.
    Other than in mdistiller a batch of one sample gives 0, not NaN, equal samples have a finite
    gradient, and with eps = 0 they count in the mean.
    Clean form: `kdops.nn.RKDLoss(25, 50)`.
    Source: mdistiller, mdistiller/distillers/RKD.py.
    """
    student, teacher = relations.both_rows("rkd_loss", f_s, f_t)
    return relations.rkd(student, teacher, distance_weight, angle_weight, eps=eps, squared=squared)


def pkt_loss(f_s: Tensor, f_t: Tensor, eps: float = 1e-7) -> Tensor:
    """1 / N^2 sum p log((p + eps) / (q + eps)) of (N, D) features, the sample itself included.

    The mean is over N^2, hence weights of 30000. The teacher gets a gradient, unless it comes
    without its graph.
    Other than in mdistiller a zero row has a finite gradient, not NaN, but of the order of 1 / eps:
    the clean form gives it 0. NaN stays NaN.
    Clean form: `kdops.pkt_loss(f_s, f_t)`, N times the value.
    Source: mdistiller, mdistiller/distillers/PKT.py.
    """
    return relations.pkt(f_s, f_t, eps)


def similarity_loss(f_s: Tensor, f_t: Tensor) -> Tensor:
    """1 / N^2 |G_s - G_t|^2, rows of the Gram matrices G of length 1, as one element.

    The teacher gets a gradient, unless it comes without its graph.
    Clean form: `kdops.sp_loss(f_s.flatten(1), f_t.flatten(1))`, a scalar.
    Source: mdistiller, mdistiller/distillers/SP.py.
    """
    return relations.similarity("similarity_loss", f_s, f_t).reshape(1)


def sp_loss(g_s: Iterable[Tensor], g_t: Iterable[Tensor]) -> Tensor | Literal[0]:
    """The sum of `similarity_loss` over pairs of layers, one element; 0 for no layer.

    Source: mdistiller, mdistiller/distillers/SP.py.
    """
    return sum(similarity_loss(f_s, f_t) for f_s, f_t in zip(g_s, g_t, strict=False))
