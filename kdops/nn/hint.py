"""Parts with parameters that bring a student's layer to the shape of the teacher's."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import functional as F

ACTIVATIONS = {None: nn.Identity, "relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def _regressor(student: tuple[int, ...], teacher: tuple[int, ...]) -> nn.Module:
    if len(student) == 1:
        return nn.Linear(student[0], teacher[0])
    height, width = (a - b + 1 for a, b in zip(student[1:], teacher[1:], strict=True))
    if min(height, width) < 1:
        raise ValueError(
            "HintRegressor: teacher must be no larger than student in height and width, "
            f"got student {student} and teacher {teacher}"
        )
    return nn.Conv2d(student[0], teacher[0], (height, width))


class HintRegressor(nn.Sequential):
    """FitNets' regressor from the guided layer to the hint layer.

    A convolution without padding whose kernel, (H - H' + 1, W - W' + 1), takes the size to the
    teacher's: 1 x 1 for equal sizes; a linear map for vectors; nothing where the shapes are equal.

    Args:
        student: shape of the guided layer without the batch, (C, H, W) or (C,).
        teacher: shape of the hint layer, (C', H', W') with H' <= H and W' <= W, or (C',).
        activation: that of the teacher's layer: None, 'relu', 'tanh' or 'sigmoid'.
    Raises:
        ValueError: for shapes of other or different ranks, or a larger teacher.
    Source: Romero et al., 2015, "FitNets: Hints for Thin Deep Nets", section 2.2.

    >>> HintRegressor((16, 8, 8), (64, 4, 4))(torch.randn(2, 16, 8, 8)).shape
    torch.Size([2, 64, 4, 4])
    """

    def __init__(
        self, student: Sequence[int], teacher: Sequence[int], *, activation: str | None = None
    ):
        student, teacher = tuple(student), tuple(teacher)
        sizes = len(student) == len(teacher) and len(student) in (1, 3)
        if not sizes or min(*student, *teacher) < 1:
            raise ValueError(
                "HintRegressor: student and teacher must both be (C, H, W) or (C,) of sizes >= 1, "
                f"got {student} and {teacher}"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"HintRegressor: activation must be one of {', '.join(map(repr, ACTIVATIONS))}, "
                f"got {activation!r}"
            )
        if student == teacher:
            super().__init__()
        else:
            super().__init__(_regressor(student, teacher), ACTIVATIONS[activation]())


class VIDLoss(nn.Module):
    """`vid_loss` with its regressor and variances, which are trained with the student.

    The mean is a regressor of three 1 x 1 convolutions with ReLU between them, the variance of a
    channel softplus(raw) + eps.

    Args:
        student: number of channels of the student's layer.
        teacher: of the teacher's.
        hidden: of the regressor, teacher's by default.
        variance: at the start, > eps.
        eps: least variance.
        reduction: as of `vid_loss`.
    Source: Ahn, Hu, Damianou, Lawrence, Dai, 2019, "Variational Information Distillation for
        Knowledge Transfer", section 2.2.

    >>> VIDLoss(16, 64)(torch.randn(2, 16, 8, 8), torch.randn(2, 64, 8, 8)).backward()
    """

    def __init__(
        self,
        student: int,
        teacher: int,
        *,
        hidden: int | None = None,
        variance: float = 5.0,
        eps: float = 1e-5,
        reduction: str = "mean",
    ):
        super().__init__()
        if not 0 <= eps < variance < math.inf:
            raise ValueError(
                "VIDLoss: variance must be finite and above eps >= 0, "
                f"got variance {variance} and eps {eps}"
            )
        hidden = hidden or teacher
        self.regressor = nn.Sequential(
            nn.Conv2d(student, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, teacher, 1),
        )
        # softplus(raw) = variance - eps
        raw = variance - eps + math.log(-math.expm1(eps - variance))
        self.raw_variance = nn.Parameter(torch.full((teacher,), raw))
        self.eps, self.reduction = eps, reduction

    def variance(self) -> Tensor:
        return nn.functional.softplus(self.raw_variance) + self.eps

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        prediction = self.regressor(student)
        return F.vid_loss(prediction, teacher, self.variance(), reduction=self.reduction)
