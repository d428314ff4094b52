"""Losses on logits and on feature maps as modules without parameters."""

from torch import Tensor

from .. import functional as F
from .options import Options


class DKDLoss(Options):
    """`dkd_loss` with its options; called with (student, teacher, target)."""

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        target_weight: float = 1.0,
        rest_weight: float = 8.0,
        reduction: str = "batchmean",
        ignore_index: int = -100,
        teacher_grad: bool = False,
    ):
        super().__init__(
            temperature=temperature,
            target_weight=target_weight,
            rest_weight=rest_weight,
            reduction=reduction,
            ignore_index=ignore_index,
            teacher_grad=teacher_grad,
        )

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        return F.dkd_loss(student, teacher, target, **self.options())


class DISTLoss(Options):
    """`dist_loss` with its options; called with (student, teacher)."""

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        inter_weight: float = 1.0,
        intra_weight: float = 1.0,
        teacher_grad: bool = False,
    ):
        super().__init__(
            temperature=temperature,
            inter_weight=inter_weight,
            intra_weight=intra_weight,
            teacher_grad=teacher_grad,
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.dist_loss(student, teacher, **self.options())


class ATLoss(Options):
    """`at_loss` with its options; called with (student, teacher)."""

    def __init__(
        self,
        *,
        p: float = 2,
        squared: bool = True,
        reduction: str = "mean",
        teacher_grad: bool = False,
    ):
        super().__init__(p=p, squared=squared, reduction=reduction, teacher_grad=teacher_grad)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.at_loss(student, teacher, **self.options())


class FSPLoss(Options):
    """`fsp_loss` with its options; called with two pairs of layers."""

    def __init__(self, *, reduction: str = "mean", teacher_grad: bool = False):
        super().__init__(reduction=reduction, teacher_grad=teacher_grad)

    def forward(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
        return F.fsp_loss(student, teacher, **self.options())


class HintLoss(Options):
    """`hint_loss` with its options; called with (student, teacher)."""

    def __init__(self, *, reduction: str = "batchmean", teacher_grad: bool = False):
        super().__init__(reduction=reduction, teacher_grad=teacher_grad)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.hint_loss(student, teacher, **self.options())
