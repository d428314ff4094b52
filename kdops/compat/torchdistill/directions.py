"""torchdistill's losses of layers' directions. The teacher's gradient is kept."""

import math

from torch import Tensor, nn

from ...reference.numbers import accumulation, over
from ._io_dict import IODict, Pair


def directions(x: Tensor, q: float, dim: int) -> Tensor:
    """x over its q-norm; 0 stays 0."""
    x = accumulation(x)
    return over(x, x.norm(p=q, dim=dim, keepdim=True))


class KTALoss(Pair):
    """Distance of the flattened directions of a translator's output and an adapter's.

    p = 1 is the mean over all entries of |a - a'|, another p the mean over samples of the p-norm;
    directions are rows over their q-norm.
    """

    def __init__(
        self,
        p: float = 1,
        q: float = 2,
        reduction: str = "mean",
        knowledge_translator_path: str = "paraphraser",
        feature_adapter_path: str = "feature_adapter",
        **kwargs: object,
    ) -> None:
        super().__init__(feature_adapter_path, "output", knowledge_translator_path, "output")
        self.p, self.q, self.reduction = p, q, reduction

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        layers = (x.flatten(1) for x in self.pair(student_io_dict, teacher_io_dict))
        ours, theirs = (directions(x, self.q, 1) for x in layers)
        if self.p == 1:
            return nn.functional.l1_loss(ours, theirs, reduction=self.reduction)
        lengths = (ours - theirs).norm(self.p, dim=1)
        return lengths.mean() if self.reduction == "mean" else lengths.sum()


class FTLoss(KTALoss):
    """`KTALoss` of a paraphraser's output and a translator's, with Euclidean directions."""

    def __init__(
        self,
        p: float = 1,
        reduction: str = "mean",
        paraphraser_path: str = "paraphraser",
        translator_path: str = "translator",
        **kwargs: object,
    ) -> None:
        super().__init__(p, 2, reduction, paraphraser_path, translator_path)


class AffinityLoss(Pair):
    """Sum over channels of |a a^T - b b^T| / (H W), a and b the channels' directions.

    The Frobenius norm is |a - b| |a + b| / sqrt(2): no (HW, HW) matrix is made.
    """

    def __init__(
        self,
        student_module_path: str,
        teacher_module_path: str,
        student_module_io: str = "output",
        teacher_module_io: str = "output",
        reduction: str = "mean",
        **kwargs: object,
    ) -> None:
        super().__init__(
            student_module_path, student_module_io, teacher_module_path, teacher_module_io
        )
        self.reduction = reduction

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        layers = (x.flatten(2) for x in self.pair(student_io_dict, teacher_io_dict))
        ours, theirs = (directions(x, 2, 2) for x in layers)
        norms = (ours - theirs).norm(dim=2) * (ours + theirs).norm(dim=2)
        rows = norms.sum(1) / (math.sqrt(2) * ours.shape[2])
        return rows.mean() if self.reduction == "mean" else rows.sum()
