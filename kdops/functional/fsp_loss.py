"""Flow of the solution procedure: how the channels of two layers go together."""

from torch import Tensor

from .. import _checks, reference
from ._composed import constant, same_batch
from ._dispatch import Scalars, Tensors, in_full_precision
from ._rows import same_dtype

REDUCTIONS = ("mean", "batchmean", "sum", "none")


def _check(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> None:
    for name, layers in (("student", student), ("teacher", teacher)):
        _checks.pair("fsp_loss", name, layers)
        for x in layers:
            _checks.feature_maps("fsp_loss", name, x)
    for ours, theirs in zip(student, teacher, strict=True):
        same_batch("fsp_loss", ours, theirs)
        same_batch("fsp_loss", ours, student[0])
    channels, wanted = ([x.shape[1] for x in layers] for layers in (student, teacher))
    if channels != wanted:
        raise ValueError(
            f"fsp_loss: student must have teacher's channels {wanted} in its two layers, "
            f"got {channels}"
        )


def _formula(tensors: Tensors, scalars: Scalars) -> Tensor:
    return reference.fsp_loss(tensors[:2], tensors[2:], reduction=scalars[0])


def fsp_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    *,
    reduction: str = "mean",
    teacher_grad: bool = False,
) -> Tensor:
    """Squared difference of the Gram matrices between two layers.

        mean (G - G')^2,   G_nij = 1/(H W) sum_hw first_nihw second_njhw

    Args:
        student: a pair of (N, C, H, W) feature maps, of two layers; float32, float64, bfloat16 or
            float16. The larger of the pair is averaged over cells to the smaller's size.
        teacher: the same of the teacher: as many samples and channels, any sizes. Another float
            type is promoted.
        reduction: 'mean' over samples and channel pairs, as published code does; 'batchmean' over
            samples; 'sum'; 'none' gives (N, C1, C2).
        teacher_grad: whether the teacher gets its gradient too.
    Returns:
        A scalar, (N, C1, C2) for 'none'; float32, float64 for float64 inputs. No sample: 0.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
        RuntimeError: for tensors on two devices.
    Gradient:
        To student, and to teacher with teacher_grad; twice differentiable.
    Source: Yim, Joo, Bae, Kim, 2017, "A Gift from Knowledge Distillation", section 3.2,
        equations 1 and 2; there the larger map is brought to size by max pooling.

    >>> layers = torch.randn(2, 8, 16, 7, 7, requires_grad=True)
    >>> fsp_loss((layers[0], layers[1]), tuple(torch.randn(2, 8, 16, 14, 14))).backward()
    """
    _check(student, teacher)
    _checks.one_of("fsp_loss", "reduction", reduction, REDUCTIONS)
    tensors = same_dtype(*student, *(constant(x, teacher_grad) for x in teacher))
    return in_full_precision(_formula, tensors, (reduction,))
