"""HKD: probabilities of neighbours in several layers, and which layers go together."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import functional as F
from ..functional._relations import Gather
from ..functional._rows import summed


class InformationFlowLoss(nn.Module):
    """Sum over layers l and kernels k of weight_l * pkt_loss(student_l, teacher_l, kernel=k).

    Args:
        kernels: of each layer, added.
        divergence: 'jeffreys', HKD's, or 'kl'.
        include_self: as of `pkt_loss`.
        reduction: 'mean' as published; 'batchmean' keeps its size when the batch changes.
        eps: as of `pkt_loss`; published code's 1e-6.
        gather: as of `pkt_loss`.
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
        gather: Gather = None,
    ):
        super().__init__()
        self.kernels = tuple(kernels)
        if not self.kernels:
            raise ValueError("InformationFlowLoss: kernels must hold at least one, got none")
        self.divergence, self.include_self = divergence, include_self
        self.reduction, self.eps, self.gather = reduction, eps, gather

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], weights: Sequence[float]
    ) -> Tensor:
        """student, teacher: (N, D) features, one a layer; weights: as many numbers."""
        if not len(student) == len(teacher) == len(weights) > 0:
            raise ValueError(
                "InformationFlowLoss: student, teacher and weights must have one entry a layer, "
                f"got {len(student)}, {len(teacher)} and {len(weights)}"
            )
        return summed(
            weight
            * F.pkt_loss(
                ours,
                theirs,
                kernel=kernel,
                divergence=self.divergence,
                include_self=self.include_self,
                reduction=self.reduction,
                eps=self.eps,
                gather=self.gather,
            )
            for ours, theirs, weight in zip(student, teacher, weights, strict=True)
            for kernel in self.kernels
        )


def _check(layers: Sequence[Tensor], target: Tensor) -> None:
    if target.dim() != (2 if target.is_floating_point() else 1):
        raise ValueError(
            "information_flow: target must be (N,) labels or (N, D) features, "
            f"got {target.dtype} of shape {tuple(target.shape)}"
        )
    for x in layers:
        if x.dim() != 2 or len(x) != len(target):
            raise ValueError(
                f"information_flow: layers must be (N, D) features with target's {len(target)} "
                f"rows, got shape {tuple(x.shape)}"
            )


def _centred_kernel(x: Tensor) -> Tensor:
    """(1 + cosine) / 2, or whether labels are equal; less the means of rows and of columns."""
    if x.is_floating_point():
        k = F.rbf_correlation(x, gamma=0.5, order=1) * (math.e / 2)
    else:
        k = (x[:, None] == x[None]).float()
    return k - k.mean(0) - k.mean(1, keepdim=True) + k.mean()


@torch.no_grad()
def information_flow(layers: Sequence[Tensor], target: Tensor) -> Tensor:
    """How much each layer tells about the target: a network's information flow vector.

        omega_l = 1/N^2 sum_ij K~_ij L~_ij

    K~ and L~ are the cosine kernels of the layer and of the target with centred rows and columns:
    quadratic mutual information in its information potentials, V_in + V_all - 2 V_between.

    Args:
        layers: (N, D) features, one a layer.
        target: (N,) labels, or (N, D') features such as the teacher's last layer.
    Returns:
        (L,) values >= 0 without gradient, L = len(layers) >= 1. No row: 0.
    Raises:
        TypeError: for a wrong dtype. ValueError: for a wrong shape.
    Source: Passalis, Tzelepi, Tefas, 2020, "Heterogeneous Knowledge Distillation using Information
        Flow Modeling", section 3.1; Torkkola, 2003, "Feature Extraction by Non-Parametric Mutual
        Information Maximization", section 3.
    """
    _check(layers, target)
    wanted = _centred_kernel(target)
    flow = torch.stack([(_centred_kernel(x) * wanted).sum() for x in layers])
    return flow / max(1, len(target) ** 2)


def match_layers(student: Sequence[float], teacher: Sequence[float]) -> list[int]:
    """The teacher's layer for each layer of the student, by information flow.

        argmin_k (omega'_k - omega_l)^2 for a hidden layer l; the last goes to the last

    Args:
        student: omega, one finite number a layer, see `information_flow`.
        teacher: omega', the same of the teacher.
    Returns:
        An index of a teacher's layer for each of student's; the first of equally near ones.
    Raises:
        ValueError: for no layer, or values that are not finite.
    Source: Passalis, Tzelepi, Tefas, 2020, "Heterogeneous Knowledge Distillation using Information
        Flow Modeling", section 3.1.

    >>> match_layers([0.1, 0.5, 0.9], [0.05, 0.2, 0.45, 1.0])
    [0, 2, 3]
    """
    student, teacher = ([float(x) for x in omega] for omega in (student, teacher))
    for name, omega in (("student", student), ("teacher", teacher)):
        if not omega or not all(map(math.isfinite, omega)):
            raise ValueError(
                f"match_layers: {name} must hold one finite number a layer, got {omega}"
            )
    layers = range(len(teacher))
    hidden = [min(layers, key=lambda k: abs(teacher[k] - x)) for x in student[:-1]]
    return [*hidden, layers[-1]]
