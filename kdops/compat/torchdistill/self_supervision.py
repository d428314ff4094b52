"""torchdistill's losses of SSKD, of images and their altered copies.

Of a batch of N rows 0, 4, 8, ... are images, each followed by its three copies.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ... import _checks
from ...functional._composed import same_shape
from ...functional._rows import summed
from ...reference.numbers import accumulation
from .._zoos.contrast import products
from ._io_dict import IODict, Pair, at
from .directions import directions
from .logits import soft_term


def images_and_copies(function: str, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    _checks.features(function, name, x)
    if len(x) < 2:
        raise ValueError(
            f"{function}: {name} must hold an image and a copy of it, got shape {tuple(x.shape)}"
        )
    x = accumulation(x)
    return x[::4], x[torch.arange(len(x), device=x.device) % 4 != 0]


def image_of(copies: Tensor) -> Tensor:
    return torch.arange(len(copies), device=copies.device) // 3


def cosines(function: str, name: str, x: Tensor) -> Tensor:
    """Of each copy with each image; a zero row has 0, and gradient 0."""
    images, copies = images_and_copies(function, name, x)
    return products(directions(copies, 2, 1), directions(images, 2, 1).mT)


def kept(scores: Tensor, target: Tensor, ratio: float) -> Tensor:
    """Numbers of the rows whose target scores best, and of a share of the others: those whose
    target is next to it.
    """
    order = scores.argsort(dim=1, descending=True)
    rank = (order == target[:, None]).long().argmax(1)
    wrong = int(rank.count_nonzero())
    # Of equal ranks those that argsort, not stable, takes first: the same as torchdistill's.
    return rank.argsort()[: len(rank) - wrong + int(wrong * ratio)].sort().values


class AuxSSKDLoss(nn.CrossEntropyLoss):
    """Cross-entropy of each copy's cosines with the images, its own image the label.

    Of the teacher's module, which it trains; without a temperature. There is no clean form.

    Args:
        kwargs: of the cross-entropy: weight, ignore_index, label_smoothing.
    Raises:
        ValueError: for an output that is not (N, D) with N >= 2.
    """

    def __init__(
        self,
        module_path: str = "ss_module",
        module_io: str = "output",
        reduction: str = "mean",
        **kwargs: object,
    ) -> None:
        super().__init__(reduction=reduction, **kwargs)  # type: ignore[arg-type]
        self.module_path, self.module_io = module_path, module_io

    def forward(  # type: ignore[override]
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        x = at(teacher_io_dict, self.module_path, self.module_io)
        similarity = cosines("AuxSSKDLoss", "teacher's output", x)
        return super().forward(similarity, image_of(similarity))


class SSKDLoss(Pair):
    """w_1 CE + w_2 kl_temp^2 KL of the images + w_3 ss_temp^2 KL of cosines + w_4 tf_temp^2 KL.

    The last is of the copies' logits. The cosines are each copy's with the images, of both
    self-supervision modules, the teacher's without gradient; its logits keep theirs. Of the copies
    that the teacher has wrong (of cosines: whose own image is not the nearest) the last two terms
    take a share, ss_ratio and tf_ratio, those with the best rank of the right answer. Where no
    copy is left a term is 0, not NaN.
    The clean form of the first two is
    `kdops.kd_loss(student, teacher, targets, temperature=kl_temp, kd_weight=w_2, ce_weight=w_1)`.

    Args:
        loss_weights: w_1 to w_4, 1 unless given.
        reduction: 'batchmean', 'mean' (of a KL over all entries) or 'sum'.
    Raises:
        TypeError: for targets that are no integers.
        ValueError: for outputs that are not (N, D) with N >= 2, or targets other than one an image.
    """

    def __init__(
        self,
        student_linear_module_path: str,
        teacher_linear_module_path: str,
        student_ss_module_path: str,
        teacher_ss_module_path: str,
        kl_temp: float,
        ss_temp: float,
        tf_temp: float,
        ss_ratio: float,
        tf_ratio: float,
        student_linear_module_io: str = "output",
        teacher_linear_module_io: str = "output",
        student_ss_module_io: str = "output",
        teacher_ss_module_io: str = "output",
        loss_weights: Sequence[float] | None = None,
        reduction: str = "batchmean",
        **kwargs: object,
    ) -> None:
        super().__init__(
            student_linear_module_path,
            student_linear_module_io,
            teacher_linear_module_path,
            teacher_linear_module_io,
        )
        _checks.one_of("SSKDLoss", "reduction", reduction, ("batchmean", "mean", "sum"))
        self.student_ss = student_ss_module_path, student_ss_module_io
        self.teacher_ss = teacher_ss_module_path, teacher_ss_module_io
        self.kl_temp, self.ss_temp, self.tf_temp = kl_temp, ss_temp, tf_temp
        self.ss_ratio, self.tf_ratio = ss_ratio, tf_ratio
        self.loss_weights = [1.0] * 4 if loss_weights is None else loss_weights
        self.reduction = reduction
        mean = "mean" if reduction == "batchmean" else reduction
        self.cross_entropy_loss = nn.CrossEntropyLoss(reduction=mean)

    def forward(
        self,
        student_io_dict: IODict,
        teacher_io_dict: IODict,
        targets: Tensor,
        *args: object,
        **kwargs: object,
    ) -> Tensor:
        (ours, our_copies), (theirs, their_copies) = (
            images_and_copies("SSKDLoss", f"{net}'s logits", x)
            for net, x in zip(
                ("student", "teacher"), self.pair(student_io_dict, teacher_io_dict), strict=True
            )
        )
        _checks.target("SSKDLoss", targets, ours)
        targets = targets.long()
        hard = self.cross_entropy_loss(ours, targets)
        soft = self.term(ours, theirs, self.kl_temp)
        near = cosines("SSKDLoss", "student's output", at(student_io_dict, *self.student_ss))
        given = cosines("SSKDLoss", "teacher's output", at(teacher_io_dict, *self.teacher_ss))
        same_shape("SSKDLoss", near, given)
        given = given.detach()
        rows = kept(given, image_of(given), self.ss_ratio)
        supervised = self.term(near[rows], given[rows], self.ss_temp)
        probabilities = (their_copies.detach() / self.tf_temp).softmax(1)
        rows = kept(probabilities, targets[image_of(their_copies)], self.tf_ratio)
        altered = self.term(our_copies[rows], their_copies[rows], self.tf_temp)
        terms = zip(self.loss_weights, (hard, soft, supervised, altered), strict=False)
        return summed(w * x for w, x in terms)

    def term(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return temperature**2 * soft_term(student, teacher, temperature, self.reduction)
