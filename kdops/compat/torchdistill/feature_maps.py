"""torchdistill's losses of feature maps. The teacher's gradient is kept."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ... import _checks
from ... import functional as F
from ...reference.numbers import accumulation, root
from .._zoos import maps
from ._io_dict import IODict, Pair, PairConfigs, Pairs, at
from .logits import MODES


class ATLoss(Pairs):
    """Weighted sum of attention transfer over pairs of layers.

    Mode 'code' is the mean of squares, `kdops.at_loss(...)`; mode 'paper' the mean over samples of
    lengths, `at_loss(..., squared=False)`. Maps of different sizes are averaged to the smaller.
    """

    def __init__(self, at_pairs: PairConfigs, mode: str = "code", **kwargs: object) -> None:
        super().__init__(at_pairs)
        _checks.one_of("ATLoss", "mode", mode, MODES)
        self.squared = mode == "code"

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor | float:
        return sum(
            weight * F.at_loss(ours, theirs, squared=self.squared, teacher_grad=True)
            for weight, ours, theirs in self.weighted(student_io_dict, teacher_io_dict)
        )


def pooled(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both at the smaller height and width, by the largest of each cell."""
    size = [min(pair) for pair in zip(first.shape[2:], second.shape[2:], strict=True)]
    first, second = (
        x if list(x.shape[2:]) == size else nn.functional.adaptive_max_pool2d(x, size)
        for x in (first, second)
    )
    return first, second


class FSPLoss(nn.Module):
    """Lengths of the columns of G - G', summed over columns and samples, over N.

    `kdops.fsp_loss` is the clean form: the mean of squares, maps averaged and not max-pooled.

    Args:
        fsp_pairs: {name: {student_first: {path, io}, student_second, teacher_first,
            teacher_second, weight}}.
    """

    def __init__(self, fsp_pairs: PairConfigs, **kwargs: object) -> None:
        super().__init__()
        self.pairs = fsp_pairs

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor | float:
        value: Tensor | float = 0
        for pair in self.pairs.values():
            layers = []
            for net, io_dict in (("student", student_io_dict), ("teacher", teacher_io_dict)):
                hooks = pair[f"{net}_first"], pair[f"{net}_second"]
                layers.append(pooled(*(at(io_dict, x["path"], x["io"]) for x in hooks)))
            squares = F.fsp_loss(*layers, reduction="none", teacher_grad=True)
            lengths = root(squares.sum(1))
            value = value + pair.get("weight", 1) * lengths.sum() / len(squares)
        return value


class VIDLoss(Pairs):
    """Weighted sum of mean ((teacher - mean)^2 / variance + log variance) / 2.

    The student's modules give (mean, variance), such as torchdistill's Regressor4VID.
    `kdops.vid_loss` is the clean form, `kdops.nn.VIDLoss` with the regressor.
    """

    def __init__(self, feature_pairs: PairConfigs, **kwargs: object) -> None:
        super().__init__(feature_pairs)

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor | float:
        value: Tensor | float = 0
        for weight, (mean, variance), layer in self.weighted(student_io_dict, teacher_io_dict):
            variance = accumulation(variance)
            error = (accumulation(mean) - accumulation(layer)).square()
            value = value + weight * ((error / variance + variance.log()) / 2).mean()
        return value


class AltActTransferLoss(Pairs):
    """Squares by which activations miss a margin on the teacher's side of 0; 'mean' is over N.

    (s + m)^2 where s > -m and the teacher's is <= 0, (s - m)^2 where s <= m and it is > 0.
    """

    def __init__(
        self, feature_pairs: PairConfigs, margin: float, reduction: str, **kwargs: object
    ) -> None:
        super().__init__(feature_pairs)
        self.margin, self.reduction = margin, reduction

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor | float:
        value: Tensor | float = 0
        rows: Any = None  # of no pairs there is no mean: a TypeError, as in torchdistill
        for weight, ours, theirs in self.weighted(student_io_dict, teacher_io_dict):
            rows = len(ours) if rows is None else rows
            missed = maps.boundaries(accumulation(ours), theirs, self.margin)
            value = value + weight * missed.sum()
        return value / rows if self.reduction == "mean" else value


class ChSimLoss(Pairs):
    """SP of the channels of each sample: squares over C N^2, with rows of length 1.

    For one sample, `kdops.sp_loss(student[n].flatten(1), ..., reduction="batchmean") / N^2`.
    """

    def __init__(self, feature_pairs: PairConfigs, **kwargs: object) -> None:
        super().__init__(feature_pairs)

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor | float:
        value: Tensor | float = 0
        for weight, *layers in self.weighted(student_io_dict, teacher_io_dict):
            flat = [accumulation(x).flatten(2) for x in layers]
            ours, theirs = (nn.functional.normalize(x @ x.mT, dim=2) for x in flat)
            squares = (ours - theirs).square().sum()
            value = value + weight * squares / (ours.shape[1] * len(ours) ** 2)
        return value


class PADL2Loss(Pair):
    """Mean over features of (teacher - student)^2 / (eps + variance) + log variance.

    The variance is the exponential of what the student's module `module_path` gives.
    """

    def __init__(
        self,
        student_embed_module_path: str,
        teacher_embed_module_path: str,
        student_embed_module_io: str = "output",
        teacher_embed_module_io: str = "output",
        module_path: str = "var_estimator",
        module_io: str = "output",
        eps: float = 1e-6,
        reduction: str = "mean",
        **kwargs: object,
    ) -> None:
        super().__init__(
            student_embed_module_path,
            student_embed_module_io,
            teacher_embed_module_path,
            teacher_embed_module_io,
        )
        self.estimator = module_path, module_io
        self.eps, self.reduction = eps, reduction

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        log_variance = accumulation(at(student_io_dict, *self.estimator))
        layers = self.pair(student_io_dict, teacher_io_dict)
        ours, theirs = (accumulation(x).flatten(1) for x in layers)
        error = (theirs - ours).square() / (self.eps + log_variance.exp())
        rows = (error + log_variance).mean(1)
        return rows.mean() if self.reduction == "mean" else rows.sum()


class HierarchicalContextLoss(Pair):
    """Squared error of the maps and of their averages over k x k cells, weights 1, 1/2, 1/4, ...

    Over the sum of the weights; a k not below the height is left out. The student's module gives
    a pair whose first is the map.
    """

    def __init__(
        self,
        student_module_path: str,
        student_module_io: str,
        teacher_module_path: str,
        teacher_module_io: str,
        reduction: str = "mean",
        output_sizes: Sequence[int] | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(
            student_module_path, student_module_io, teacher_module_path, teacher_module_io
        )
        self.reduction = reduction
        self.output_sizes = [4, 2, 1] if output_sizes is None else output_sizes

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        (ours, _), theirs = self.pair(student_io_dict, teacher_io_dict)
        ours, theirs = accumulation(ours), accumulation(theirs)
        error = partial(nn.functional.mse_loss, reduction=self.reduction)
        return maps.pyramid(error, ours, theirs, self.output_sizes)


class RegularizationLoss(nn.Module):
    """The p-norm of all that one module of the student, or of the teacher, took or gave.

    It compares nothing. There is no clean form: `x.norm(p)`.
    """

    def __init__(
        self,
        module_path: str,
        io_type: str = "output",
        is_from_teacher: bool = False,
        p: float = 1,
        **kwargs: object,
    ) -> None:
        super().__init__()
        self.module, self.is_from_teacher = (module_path, io_type), is_from_teacher
        self.norm_p = p

    def forward(
        self, student_io_dict: IODict, teacher_io_dict: IODict, *args: object, **kwargs: object
    ) -> Tensor:
        io_dict = teacher_io_dict if self.is_from_teacher else student_io_dict
        return accumulation(at(io_dict, *self.module)).norm(p=self.norm_p)
