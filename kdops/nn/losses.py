"""Each loss as a module without parameters or buffers: plain attributes, see kdops.functional."""

from torch import Tensor

from .. import functional as F
from ..functional._relations import Gather, Students
from ..functional._rows import summed
from .options import Options


class KDLoss(Options):
    """`kd_loss` with its options; called with (student, teacher, target=None)."""

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        kd_weight: float = 1.0,
        ce_weight: float = 0.0,
        reduction: str = "batchmean",
        ignore_index: int = -100,
        scale_t2: bool = True,
        teacher_grad: bool = False,
    ):
        super().__init__(
            temperature=temperature,
            kd_weight=kd_weight,
            ce_weight=ce_weight,
            reduction=reduction,
            ignore_index=ignore_index,
            scale_t2=scale_t2,
            teacher_grad=teacher_grad,
        )

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
        return F.kd_loss(student, teacher, target, **self.options())


class SoftCrossEntropyLoss(Options):
    """`soft_cross_entropy` with its options; called with (student, teacher)."""

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        reduction: str = "batchmean",
        scale_t2: bool = True,
        teacher_grad: bool = False,
    ):
        super().__init__(
            temperature=temperature,
            reduction=reduction,
            scale_t2=scale_t2,
            teacher_grad=teacher_grad,
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.soft_cross_entropy(student, teacher, **self.options())


class RKDDistanceLoss(Options):
    """`rkd_distance_loss` with its options; called with (student or layers, teacher)."""

    def __init__(
        self,
        *,
        reduction: str = "mean",
        eps: float = 0.0,
        teacher_grad: bool = False,
        gather: Gather = None,
    ):
        super().__init__(reduction=reduction, eps=eps, teacher_grad=teacher_grad, gather=gather)

    def forward(self, student: Students, teacher: Tensor) -> Tensor:
        return F.rkd_distance_loss(student, teacher, **self.options())


class RKDAngleLoss(Options):
    """`rkd_angle_loss` with its options; called with (student or layers, teacher)."""

    def __init__(
        self,
        *,
        reduction: str = "mean",
        eps: float = 0.0,
        teacher_grad: bool = False,
        gather: Gather = None,
    ):
        super().__init__(reduction=reduction, eps=eps, teacher_grad=teacher_grad, gather=gather)

    def forward(self, student: Students, teacher: Tensor) -> Tensor:
        return F.rkd_angle_loss(student, teacher, **self.options())


class RKDLoss(Options):
    """distance_weight * rkd_distance_loss + angle_weight * rkd_angle_loss.

    The weights default to 25 and 50, common for classification; the paper's metric learning has 1
    and 2. A weight of 0 leaves its term out.
    Source: Park et al., 2019, "Relational Knowledge Distillation", section 3.3.
    """

    def __init__(
        self,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        *,
        reduction: str = "mean",
        eps: float = 0.0,
        teacher_grad: bool = False,
        gather: Gather = None,
    ):
        super().__init__(reduction=reduction, eps=eps, teacher_grad=teacher_grad, gather=gather)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def forward(self, student: Students, teacher: Tensor) -> Tensor:
        terms = (
            (self.distance_weight, F.rkd_distance_loss),
            (self.angle_weight, F.rkd_angle_loss),
        )
        values = [w * f(student, teacher, **self.options()) for w, f in terms if w != 0]
        return summed(values) if values else teacher.new_zeros(())

    def extra_repr(self) -> str:
        return f"{self.distance_weight}, {self.angle_weight}, {super().extra_repr()}"


class IRGLoss(Options):
    """`irg_edge_loss` with its options; called with (student or layers, teacher)."""

    def __init__(
        self,
        *,
        reduction: str = "mean",
        teacher_grad: bool = False,
        gather: Gather = None,
    ):
        super().__init__(reduction=reduction, teacher_grad=teacher_grad, gather=gather)

    def forward(self, student: Students, teacher: Tensor) -> Tensor:
        return F.irg_edge_loss(student, teacher, **self.options())


class CCKDLoss(Options):
    """`cckd_loss` with its options; called with (student, teacher)."""

    def __init__(
        self,
        *,
        kernel: str = "rbf",
        gamma: float = 0.4,
        order: int | None = 2,
        normalize: bool = True,
        reduction: str = "mean",
        teacher_grad: bool = False,
        gather: Gather = None,
    ):
        super().__init__(
            kernel=kernel,
            gamma=gamma,
            order=order,
            normalize=normalize,
            reduction=reduction,
            teacher_grad=teacher_grad,
            gather=gather,
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.cckd_loss(student, teacher, **self.options())


class PKTLoss(Options):
    """`pkt_loss` with its options; called with (student, teacher)."""

    def __init__(
        self,
        *,
        kernel: str = "cosine",
        divergence: str = "kl",
        include_self: bool = True,
        reduction: str = "batchmean",
        eps: float = 0.0,
        teacher_grad: bool = False,
        gather: Gather = None,
    ):
        super().__init__(
            kernel=kernel,
            divergence=divergence,
            include_self=include_self,
            reduction=reduction,
            eps=eps,
            teacher_grad=teacher_grad,
            gather=gather,
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.pkt_loss(student, teacher, **self.options())


class SPLoss(Options):
    """`sp_loss` with its options; called with (student, teacher)."""

    def __init__(
        self,
        *,
        reduction: str = "mean",
        norm: int = 2,
        teacher_grad: bool = False,
        gather: Gather = None,
    ):
        super().__init__(reduction=reduction, norm=norm, teacher_grad=teacher_grad, gather=gather)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return F.sp_loss(student, teacher, **self.options())


class IRGTransformLoss(Options):
    """`irg_transform_loss` with its options; called with two pairs of layers."""

    def __init__(
        self,
        *,
        part: str = "vertex",
        reduction: str = "mean",
        teacher_grad: bool = False,
        gather: Gather = None,
    ):
        super().__init__(part=part, reduction=reduction, teacher_grad=teacher_grad, gather=gather)

    def forward(self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
        return F.irg_transform_loss(student, teacher, **self.options())
