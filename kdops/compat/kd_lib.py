"""RKD as KD_Lib has it: the teacher comes first.

KD_Lib's distances are at least 1e-5, over their mean plus 1e-7; its weights are 0.5 and 0.5.
"""

from torch import Tensor, nn

from .. import _checks
from .. import functional as F
from ..reference.numbers import accumulation

__all__ = ["RKDAngleLoss", "RKDDistanceLoss", "RKDLoss"]


def _distances(x: Tensor) -> Tensor:
    """Distances of rows over their mean plus 1e-7; fewer than two rows have none."""
    d = F.pairwise_distance(x, eps=1e-10)
    return d / (d.sum() / max(1, len(d) * (len(d) - 1)) + 1e-7)


def _products(x: Tensor) -> Tensor:
    """(N, N, N) inner products of the differences x_j - x_i and x_k - x_i."""
    x = accumulation(x)
    difference = x[None] - x[:, None]
    return difference @ difference.mT


def _huber(ours: Tensor, theirs: Tensor) -> Tensor:
    """Its mean over all entries; of no entry 0."""
    total = nn.functional.smooth_l1_loss(ours, theirs, reduction="sum")
    return total / max(1, ours.numel())


class RKDDistanceLoss(nn.Module):
    """Mean over N^2 of Huber of the distances, each map over its mean plus 1e-7.

    `kdops.rkd_distance_loss(student, teacher)` is the clean form: student first, and the mean
    alone, so that no scale matters.

    >>> RKDDistanceLoss()(torch.randn(8, 16), torch.randn(8, 4))  # teacher, student
    """

    def forward(self, teacher: Tensor, student: Tensor) -> Tensor:
        """teacher: (N, D) features, it gets no gradient; student: (N, D')."""
        _checks.relation("RKDDistanceLoss", (student,), teacher)
        return _huber(_distances(student), _distances(teacher.detach()))


class RKDAngleLoss(nn.Module):
    """Mean over N^3 of Huber of the cosines of all triplets; without `normalize` of inner products.

    `kdops.rkd_angle_loss(student, teacher)` is the clean form, student first.
    """

    def forward(self, teacher: Tensor, student: Tensor, normalize: bool = True) -> Tensor:
        """As of `RKDDistanceLoss`; normalize: whether differences are brought to length 1."""
        _checks.relation("RKDAngleLoss", (student,), teacher)
        if normalize:
            return F.rkd_angle_loss(student, teacher, eps=1e-12)
        return _huber(_products(student), _products(teacher.detach()))


class RKDLoss(nn.Module):
    """dist_ratio times `RKDDistanceLoss` + angle_ratio times `RKDAngleLoss`, teacher first.

    `kdops.nn.RKDLoss` is the clean form, student first.

    Args:
        dist_ratio: weight of the distances.
        angle_ratio: of the angles.
        normalize: as of `RKDAngleLoss`.
    Source: KD_Lib 0.0.32, KD_Lib/KD/vision/RKD/loss_metric.py.
    """

    def __init__(
        self, dist_ratio: float = 0.5, angle_ratio: float = 0.5, normalize: bool = True
    ) -> None:
        super().__init__()
        self.dist_ratio, self.angle_ratio, self.normalize = dist_ratio, angle_ratio, normalize
        self.distance, self.angle = RKDDistanceLoss(), RKDAngleLoss()

    def forward(self, teacher: Tensor, student: Tensor) -> Tensor:
        angle = self.angle(teacher, student, self.normalize)
        return self.angle_ratio * angle + self.dist_ratio * self.distance(teacher, student)
