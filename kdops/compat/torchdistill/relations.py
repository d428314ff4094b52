"""torchdistill's losses between relations of a batch."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ... import _checks
from ... import functional as F
from ...reference.numbers import root
from ._io_dict import IODict, Pair

KERNELS = ("gaussian", "bilinear")


class RKDLoss(Pair):
    """dist_factor times RKD's distance loss + angle_factor times its angle loss.

    The outputs are flattened, the teacher gets no gradient. The clean forms are
    `kdops.rkd_distance_loss` and `kdops.rkd_angle_loss`, without torchdistill's eps of 1e-12.
    """

    def __init__(
        self,
        student_output_path: str,
        teacher_output_path: str,
        dist_factor: float,
        angle_factor: float,
        reduction: str,
        **kwargs: object,
    ) -> None:
        super().__init__(student_output_path, "output", teacher_output_path, "output")
        _checks.one_of("RKDLoss", "reduction", reduction, ("mean", "sum", "none"))
        self.dist_factor, self.angle_factor = dist_factor, angle_factor
        self.reduction = reduction

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor | float:
        student, teacher = (x.flatten(1) for x in self.pair(student_io_dict, teacher_io_dict))
        options: dict[str, Any] = {"reduction": self.reduction, "eps": 1e-12}
        value: Tensor | float = 0
        if self.dist_factor:
            value = value + self.dist_factor * F.rkd_distance_loss(student, teacher, **options)
        if self.angle_factor:
            angle = F.rkd_angle_loss(student, teacher, **options)
            angle = angle.flatten() if self.reduction == "none" else angle
            value = value + self.angle_factor * angle
        return value


class CCKDLoss(Pair):
    """|K - K'|, Frobenius' norm, over N^2 for 'batchmean'; the rows are not normalised.

    The clean form is `kdops.cckd_loss`: the mean of squares, with rows of length 1.

    Args:
        kernel_config: {'type': 'gaussian', 'gamma': in [0, 40], 'max_p': 0..8}, or
            {'type': 'bilinear'}.
    """

    def __init__(
        self,
        student_linear_path: str,
        teacher_linear_path: str,
        kernel_config: Mapping[str, Any],
        reduction: str,
        **kwargs: object,
    ) -> None:
        super().__init__(student_linear_path, "output", teacher_linear_path, "output")
        kernel = kernel_config["type"]
        _checks.one_of("CCKDLoss", "kernel_config['type']", kernel, KERNELS)
        self.options: dict[str, Any] = {"kernel": "bilinear"}
        if kernel == "gaussian":
            self.options = {"gamma": kernel_config["gamma"], "order": kernel_config["max_p"]}
        self.reduction = reduction

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        student, teacher = self.pair(student_io_dict, teacher_io_dict)
        options = {"normalize": False, "reduction": "sum", "teacher_grad": True, **self.options}
        distance = root(F.cckd_loss(student, teacher, **options))
        return distance / len(teacher) ** 2 if self.reduction == "batchmean" else distance


class SPKDLoss(Pair):
    """SP's squares with the rows of the Gram matrices over their sum of magnitudes.

    Over N^2 for 'batchmean', the sum for any other reduction. The clean form is `kdops.sp_loss`,
    whose rows are over their length, as in the paper.
    """

    def __init__(
        self, student_output_path: str, teacher_output_path: str, reduction: str, **kwargs: object
    ) -> None:
        super().__init__(student_output_path, "output", teacher_output_path, "output")
        self.reduction = reduction

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        student, teacher = (x.flatten(1) for x in self.pair(student_io_dict, teacher_io_dict))
        reduction = "mean" if self.reduction == "batchmean" else "sum"
        return F.sp_loss(student, teacher, norm=1, reduction=reduction, teacher_grad=True)


class PKTLoss(Pair):
    """PKT's KL with eps in lengths and logarithms, over N^2.

    The clean form is `kdops.pkt_loss`, without eps and over N.
    """

    def __init__(
        self,
        student_module_path: str,
        student_module_io: str,
        teacher_module_path: str,
        teacher_module_io: str,
        eps: float = 1e-7,
    ) -> None:
        super().__init__(
            student_module_path, student_module_io, teacher_module_path, teacher_module_io
        )
        self.eps = eps

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        student, teacher = self.pair(student_io_dict, teacher_io_dict)
        return F.pkt_loss(student, teacher, eps=self.eps, reduction="mean", teacher_grad=True)
