"""HKD: probabilities of neighbours in several layers, each with a weight."""

from collections.abc import Sequence

from torch import Tensor, nn

from .. import functional as F


class InformationFlowLoss(nn.Module):
    """Sum over layers l and kernels k of weight_l * pkt_loss(student_l, teacher_l, kernel=k).

    Args:
        kernels: of each layer, added.
        divergence: 'jeffreys', HKD's, or 'kl'.
        include_self: as of `pkt_loss`.
        reduction: 'mean' as published; 'batchmean' keeps its size when the batch changes.
        eps: as of `pkt_loss`; published code's 1e-6.
    Source: Passalis, Tzelepi, Tefas, 2020, "Heterogeneous Knowledge Distillation using Information
        Flow Modeling", section 3.2; the weights are `kdops.schedules.CriticalPeriod`'s.

    >>> student = [torch.randn(32, 16, requires_grad=True), torch.randn(32, 8)]
    >>> InformationFlowLoss()(student, torch.randn(2, 32, 64).unbind(), [0.5, 1.0]).backward()
    """

    def __init__(
        self,
        *,
        kernels: Sequence[str] = ("cosine", "student_t"),
        divergence: str = "jeffreys",
        include_self: bool = True,
        reduction: str = "mean",
        eps: float = 0.0,
    ):
        super().__init__()
        self.kernels = tuple(kernels)
        self.divergence, self.include_self = divergence, include_self
        self.reduction, self.eps = reduction, eps

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], weights: Sequence[float]
    ) -> Tensor:
        """student, teacher: (N, D) features, one a layer; weights: as many numbers."""
        if not len(student) == len(teacher) == len(weights) > 0:
            raise ValueError(
                "InformationFlowLoss: student, teacher and weights must have one entry a layer, "
                f"got {len(student)}, {len(teacher)} and {len(weights)}"
            )
        return sum(
            weight
            * F.pkt_loss(
                ours,
                theirs,
                kernel=kernel,
                divergence=self.divergence,
                include_self=self.include_self,
                reduction=self.reduction,
                eps=self.eps,
            )
            for ours, theirs, weight in zip(student, teacher, weights, strict=True)
            for kernel in self.kernels
        )
