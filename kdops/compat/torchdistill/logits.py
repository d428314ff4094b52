"""torchdistill's losses of logits. Classes lie in dimension 1; the teacher's gradient is kept."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ... import _checks
from ... import functional as F
from ...reference.numbers import accumulation, root
from ._io_dict import IODict, Pair, at

REDUCTIONS = ("batchmean", "mean", "sum", "none")
MODES = ("code", "paper")


def soft_term(student: Tensor, teacher: Tensor, temperature: float, reduction: str) -> Tensor:
    """KL of softened logits without T^2, reduced as torch's kl_div: 'mean' is over all entries."""
    if reduction == "none":  # one value an entry, which a loss of rows has not
        student, teacher = (accumulation(x) / temperature for x in (student, teacher))
        return nn.functional.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="none")
    total = F.kd_loss(
        student.movedim(1, -1),
        teacher.movedim(1, -1),
        temperature=temperature,
        reduction="sum",
        scale_t2=False,
        teacher_grad=True,
    )
    count = {"batchmean": len(student), "mean": student.numel(), "sum": 1}[reduction]
    return total / max(1, count)


class KDLoss(Pair):
    """alpha CE(student, targets) + beta T^2 KL; beta is 1 - alpha unless given.

    Without targets, or with alpha 0, it is the KL alone: neither beta nor T^2. `kdops.kd_loss` is
    the clean form, `kd_loss(student, teacher, targets, temperature=T, kd_weight=beta,
    ce_weight=alpha)`.

    Args:
        kwargs: of the cross-entropy: weight, ignore_index, label_smoothing.
    Raises:
        TypeError: where neither alpha nor beta is given, as in torchdistill.
    """

    def __init__(
        self,
        student_module_path: str,
        student_module_io: str,
        teacher_module_path: str,
        teacher_module_io: str,
        temperature: float,
        alpha: float | None = None,
        beta: float | None = None,
        reduction: str = "batchmean",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            student_module_path, student_module_io, teacher_module_path, teacher_module_io
        )
        name = type(self).__name__
        _checks.one_of(name, "reduction", reduction, REDUCTIONS)
        if beta is None:
            if alpha is None:
                raise TypeError(f"{name}: alpha must be a number where beta is None, got None")
            beta = 1 - alpha
        self.temperature, self.reduction = temperature, reduction
        self.alpha, self.beta = alpha, beta
        reduction = "mean" if reduction == "batchmean" else reduction
        self.cross_entropy_loss = nn.CrossEntropyLoss(reduction=reduction, **kwargs)

    def softened(self, logits: Tensor) -> Tensor:
        return logits

    def forward(
        self,
        student_io_dict: IODict,
        teacher_io_dict: IODict,
        targets: Tensor | None = None,
        *args: object,
        **kwargs: object,
    ) -> Tensor:
        logits, teacher = self.pair(student_io_dict, teacher_io_dict)
        soft = soft_term(
            self.softened(logits), self.softened(teacher), self.temperature, self.reduction
        )
        if not self.alpha or targets is None:
            return soft
        hard = self.cross_entropy_loss(accumulation(logits), targets)
        return self.alpha * hard + self.beta * self.temperature**2 * soft


class LogitStdKDLoss(KDLoss):
    """`KDLoss` whose soft term takes standardised logits; the cross-entropy takes the raw ones.

    The clean form is `kd_loss` of `kdops.standardize_logits`. A row of equal logits gets no
    gradient; torchdistill's is of the size of 1 / eps.
    """

    def __init__(
        self,
        student_module_path: str,
        student_module_io: str,
        teacher_module_path: str,
        teacher_module_io: str,
        temperature: float,
        eps: float = 1e-7,
        alpha: float | None = None,
        beta: float | None = None,
        reduction: str = "batchmean",
        **kwargs: Any,
    ) -> None:
        modules = student_module_path, student_module_io, teacher_module_path, teacher_module_io
        super().__init__(*modules, temperature, alpha, beta, reduction, **kwargs)
        self.eps = eps

    def softened(self, logits: Tensor) -> Tensor:
        return F.standardize_logits(logits, eps=self.eps)


class SRDLoss(nn.Module):
    """2 log sum |f - f'|^exponent + KL of the logits without T^2; the sum is over the batch.

    Features equal to the teacher's make it -inf. There is no clean form of the first term.
    """

    def __init__(
        self,
        student_feature_module_path: str,
        student_feature_module_io: str,
        teacher_feature_module_path: str,
        teacher_feature_module_io: str,
        student_linear_module_path: str,
        student_linear_module_io: str,
        teacher_linear_module_path: str,
        teacher_linear_module_io: str,
        exponent: float = 1.0,
        temperature: float = 1.0,
        reduction: str = "batchmean",
        **kwargs: object,
    ) -> None:
        super().__init__()
        _checks.one_of("SRDLoss", "reduction", reduction, REDUCTIONS)
        self.features = (
            (student_feature_module_path, student_feature_module_io),
            (teacher_feature_module_path, teacher_feature_module_io),
        )
        self.logits = (
            (student_linear_module_path, student_linear_module_io),
            (teacher_linear_module_path, teacher_linear_module_io),
        )
        self.exponent, self.temperature, self.reduction = exponent, temperature, reduction

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        io_dicts = student_io_dict, teacher_io_dict
        ours, theirs = (at(x, *m) for x, m in zip(io_dicts, self.features, strict=True))
        distance = (accumulation(ours) - accumulation(theirs)).abs().pow(self.exponent).sum()
        ours, theirs = (at(x, *m) for x, m in zip(io_dicts, self.logits, strict=True))
        return 2 * distance.log() + soft_term(ours, theirs, self.temperature, self.reduction)


def below_median(confidence: Tensor) -> Tensor:
    """Which entries are at most the median of all."""
    return confidence <= torch.quantile(confidence, 0.5)


class SKDInstanceLoss(Pair):
    """KL at a temperature; mode 'code' has T^2, and 0 for rows above the median confidence.

    The clean form of mode 'paper' is `kd_loss(..., scale_t2=False)`.
    """

    def __init__(
        self,
        student_module_path: str,
        student_module_io: str,
        teacher_module_path: str,
        teacher_module_io: str,
        temperature: float = 4.0,
        mode: str = "paper",
        **kwargs: object,
    ) -> None:
        super().__init__(
            student_module_path, student_module_io, teacher_module_path, teacher_module_io
        )
        _checks.one_of("SKDInstanceLoss", "mode", mode, MODES)
        self.temperature, self.mode = temperature, mode

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        student, teacher = self.pair(student_io_dict, teacher_io_dict)
        if self.mode == "paper":
            return soft_term(student, teacher, self.temperature, "batchmean")
        rows = F.kd_loss(
            student, teacher, temperature=self.temperature, reduction="none", teacher_grad=True
        )
        unsure = below_median(accumulation(teacher.detach()).softmax(1).amax(1))
        return (rows * unsure).mean()


class SKDDirectionLoss(Pair):
    """Mean Mahalanobis length of the rows of G - G', G the cosines of a batch's logits.

    The covariance is that of these rows plus tikhonov on its diagonal. Mode 'code' divides G by
    the number of classes C and multiplies the result by a share of classes: those whose summed
    probability is at most the median, about a half. There is no clean form.
    """

    def __init__(
        self,
        student_module_path: str,
        student_module_io: str,
        teacher_module_path: str,
        teacher_module_io: str,
        tikhonov: float = 1e-1,
        mode: str = "paper",
        **kwargs: object,
    ) -> None:
        super().__init__(
            student_module_path, student_module_io, teacher_module_path, teacher_module_io
        )
        _checks.one_of("SKDDirectionLoss", "mode", mode, MODES)
        self.tikhonov, self.mode = tikhonov, mode

    def length(self, student: Tensor, teacher: Tensor, scale: float) -> Tensor:
        ours, theirs = (F.rbf_correlation(x, gamma=0.5, order=1) for x in (student, teacher))
        change = math.e * (ours - theirs) / scale  # of cosines: the map is (1 + cosine) / e
        unit = torch.eye(len(change), device=change.device)  # float32, to which tikhonov rounds
        factor = torch.linalg.cholesky(torch.cov(change.mT) + self.tikhonov * unit)
        inverse = torch.cholesky_inverse(factor)
        return root(((change @ inverse) * change).sum(1)).mean()

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        student, teacher = self.pair(student_io_dict, teacher_io_dict)
        if self.mode == "paper":
            return self.length(student, teacher, 1)
        unsure = below_median(accumulation(teacher.detach()).softmax(1).sum(0))
        return (self.length(student, teacher, student.shape[1]) * unsure).mean()
