"""RKD's distance loss: Huber between two mean-normalised distance maps."""

from collections.abc import Sequence

from torch import Tensor

from .. import _checks, reference
from .._native import define
from ..distributed import Gather
from ..reference import relations
from ..reference.share import WHOLE, Share
from ._dispatch import RelationLoss, Scalars, Tensors
from ._relations import Students, relation, relation_outputs
from .pairwise_distance import pairwise_distance


def _fake(
    features: list[Tensor], eps: float, mean: bool, student_grad: bool, teacher_grad: bool
) -> Sequence[Tensor]:
    return relation_outputs(features, student_grad, teacher_grad)


_op = define(
    "_rkd_distance_loss(Tensor[] features, float eps, bool mean, bool student_grad, "
    "bool teacher_grad) -> Tensor[]",
    _fake,
)


def _native(
    tensors: Tensors, scalars: Scalars, student_grad: bool, teacher_grad: bool
) -> Sequence[Tensor]:
    eps, reduction = scalars
    return _op(list(tensors), eps, reduction == "mean", student_grad, teacher_grad)


def _formula(tensors: Tensors, scalars: Scalars, share: Share = WHOLE) -> Tensor:
    *students, teacher = tensors
    eps, reduction = scalars
    return reference.rkd_distance_loss(students, teacher, eps=eps, reduction=reduction, share=share)


def _edges(x: Tensor, eps: float) -> Tensor:
    return pairwise_distance(x, normalize="mean", eps=eps)


_loss = RelationLoss("rkd_distance_loss", _native, _formula, (_edges, relations.huber))


def rkd_distance_loss(
    student: Students,
    teacher: Tensor,
    *,
    reduction: str = "mean",
    eps: float = 0.0,
    teacher_grad: bool = False,
    gather: Gather = None,
) -> Tensor:
    """Huber distance of two distance maps, each over its own mean.

        1/N^2 sum_ij h(d_ij / mean(d) - d'_ij / mean(d')),   d_ij = |student_i - student_j|

    d' is the teacher's map, h(u) = u^2 / 2 for |u| < 1 and |u| - 1/2 beyond. The mean runs over
    all N (N - 1) ordered pairs, duplicates included, and takes part in the gradient.

    Args:
        student: (N, D) features, or a sequence of them, one a student layer: the result is the
            sum over the layers, and the teacher's map is built once.
        teacher: (N, D') features; D' may differ from D, another float type is promoted.
        reduction: 'mean' divides by N^2, the diagonal included, as published; 'sum'; 'none' gives
            the (N, N) Huber map.
        eps: lower bound of the squared length of a pair, >= 0; 1e-12 is the published code's.
        teacher_grad: whether the teacher gets its gradient too.
        gather: None takes the batch of this process; 'all', or a process group, the batch of its
            ranks, which must all call: each returns the loss of the whole batch ('none': its own
            rows of the map) and backward gives the gradient of the ranks' sum, world_size times
            the loss's; see `kdops.distributed`.
    Returns:
        A scalar, (N, N) for 'none'; float32, float64 for float64 inputs. Fewer than two rows: 0.
        A map that is all 0 stays 0 with a zero gradient. Scales from 1e-30 to 1e30 are exact.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
        RuntimeError: for tensors on two devices, or gather without a process group.
    Gradient:
        To student, and to teacher with teacher_grad. A pair at distance 0 has subgradient 0; near
        pairs are as exact as far ones. Second derivatives go through the reference. Bitwise
        repeatable on any number of threads.
    Memory: from N = 1024 on no N x N map is kept, only tiles of it.
    Source: Park, Kim, Lu, Cho, 2019, "Relational Knowledge Distillation", section 3.2.1.

    >>> student = torch.randn(128, 64, requires_grad=True)
    >>> rkd_distance_loss(student, torch.randn(128, 512)).backward()
    """
    _checks.number("rkd_distance_loss", "eps", eps, low=0)
    return relation(_loss, student, teacher, (eps,), reduction, teacher_grad, gather)
