"""Losses of what the samples of a batch are to each other."""

from collections.abc import Iterable

from torch import Tensor, nn

from ...functional._composed import same_shape
from ...functional._rows import widened
from .._zoos import relations


class RKDLoss(nn.Module):
    """w_d times the distance loss plus w_a times the angle loss of flattened features.

    Squared distances and lengths have the lower bound 1e-12; the teacher gets no gradient.
    Other than in RepDistiller a batch of one sample gives 0, not NaN, and equal samples have a
    finite gradient.
    Clean form: `kdops.nn.RKDLoss(25, 50)`.
    Source: RepDistiller, distiller_zoo/RKD.py.
    """

    def __init__(self, w_d: float = 25, w_a: float = 50) -> None:
        super().__init__()
        self.w_d, self.w_a = w_d, w_a

    def forward(self, f_s: Tensor, f_t: Tensor) -> Tensor:
        student, teacher = relations.both_rows("RKDLoss", f_s, f_t)
        return relations.rkd(student, teacher, self.w_d, self.w_a)


class PKT(nn.Module):
    """1 / N^2 sum p log((p + 1e-7) / (q + 1e-7)) of (N, D) features, the sample itself included.

    p and q are (1 + cosine) / 2 over their rows' sums. The mean is over N^2, hence weights of
    30000. The teacher gets a gradient, unless it comes without its graph.
    Other than in RepDistiller a zero row has a finite gradient, not NaN, but of the order of
    1 / eps: the clean form gives it 0. NaN stays NaN.
    Clean form: `kdops.pkt_loss(f_s, f_t)`, N times the value.
    Source: RepDistiller, distiller_zoo/PKT.py.
    """

    def forward(self, f_s: Tensor, f_t: Tensor) -> Tensor:
        return relations.pkt(f_s, f_t, eps=1e-7)


class Similarity(nn.Module):
    """Of each pair of layers 1 / N^2 |G_s - G_t|^2, rows of the Gram matrices G of length 1.

    Gives a list of tensors with one element, not scalars. The teacher gets a gradient, unless it
    comes without its graph.
    Clean form: `kdops.sp_loss(f_s.flatten(1), f_t.flatten(1))`.
    Source: RepDistiller, distiller_zoo/SP.py.
    """

    def forward(self, g_s: Iterable[Tensor], g_t: Iterable[Tensor]) -> list[Tensor]:
        return [
            relations.similarity("Similarity", ours, theirs).reshape(1)
            for ours, theirs in zip(g_s, g_t, strict=False)
        ]


class Correlation(nn.Module):
    """mean_i sum_d delta_id delta_(i+1)d, delta = |f_s - f_t|: of neighbours in the batch.

    It is not correlation congruence: it has no kernel, compares each sample with the next alone,
    and depends on their order. f_s and f_t must have one shape, (N, D). A batch of one sample has
    no neighbours: 0 here, NaN in RepDistiller.
    Clean form of CCKD, another value: `kdops.cckd_loss(f_s, f_t)`.
    Source: RepDistiller, distiller_zoo/CC.py.
    """

    def forward(self, f_s: Tensor, f_t: Tensor) -> Tensor:
        same_shape("Correlation", f_s, f_t)
        delta = (widened(f_s) - widened(f_t)).abs()
        products = (delta[:-1] * delta[1:]).sum(1)
        return products.sum() / max(1, products.numel())
