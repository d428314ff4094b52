"""IRG's edge loss: squares between two max-normalised maps of squared distances."""

from collections.abc import Sequence

from torch import Tensor

from .. import reference
from .._native import define
from ..distributed import Gather
from ..reference import relations
from ..reference.share import WHOLE, Share
from ._dispatch import RelationLoss, Scalars, Tensors
from ._relations import Students, relation, relation_outputs
from .pairwise_distance import pairwise_distance


def _fake(
    features: list[Tensor], mean: bool, student_grad: bool, teacher_grad: bool
) -> Sequence[Tensor]:
    return relation_outputs(features, student_grad, teacher_grad)


_op = define(
    "_irg_edge_loss(Tensor[] features, bool mean, bool student_grad, bool teacher_grad) "
    "-> Tensor[]",
    _fake,
)


def _native(
    tensors: Tensors, scalars: Scalars, student_grad: bool, teacher_grad: bool
) -> Sequence[Tensor]:
    (reduction,) = scalars
    return _op(list(tensors), reduction == "mean", student_grad, teacher_grad)


def _formula(tensors: Tensors, scalars: Scalars, share: Share = WHOLE) -> Tensor:
    *students, teacher = tensors
    return reference.irg_edge_loss(students, teacher, reduction=scalars[0], share=share)


def _edges(x: Tensor) -> Tensor:
    return pairwise_distance(x, squared=True, normalize="max")


_loss = RelationLoss("irg_edge_loss", _native, _formula, (_edges, relations.square))


def irg_edge_loss(
    student: Students,
    teacher: Tensor,
    *,
    reduction: str = "mean",
    teacher_grad: bool = False,
    gather: Gather = None,
) -> Tensor:
    """Squared difference of two instance relationship graphs' edges.

        1/N^2 sum_ij (S_ij / max(S) - S'_ij / max(S'))^2,   S_ij = |student_i - student_j|^2

    S' is the teacher's map. The maximum takes part in the gradient, split evenly over ties.

    Args:
        student: (N, D) features, or a sequence of them, one a student layer (the paper's
            one-to-many): the result is the sum over the layers, the teacher's map is built once.
        teacher: (N, D') features; D' may differ from D, another float type is promoted.
        reduction: 'mean' divides by N^2; 'sum'; 'none' gives the (N, N) map.
        teacher_grad: whether the teacher gets its gradient too.
        gather: None takes the batch of this process; 'all', or a process group, the batch of its
            ranks, which must all call: each returns the loss of the whole batch ('none': its own
            rows of the map) and backward gives the gradient of the ranks' sum, world_size times
            the loss's; see `kdops.distributed`.
    Returns:
        A scalar, (N, N) for 'none'; float32, float64 for float64 inputs. Fewer than two rows: 0.
        A map that is all 0 stays 0 with a zero gradient. Scales from 1e-30 to 1e30 are exact.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape.
        RuntimeError: for tensors on two devices, or gather without a process group.
    Gradient:
        To student, and to teacher with teacher_grad. Second derivatives go through the reference.
        Bitwise repeatable on any number of threads.
    Memory: from N = 1024 on no N x N map is kept, only tiles of it.
    Source: Liu, Cao, Li, Yuan, Hu, Li, Duan, 2019, "Knowledge Distillation via Instance
        Relationship Graph", section 3. The authors' Caffe layer takes the maximum as a constant,
        propagates half of the gradient, and divides by 2 N.

    >>> student = torch.randn(128, 64, requires_grad=True)
    >>> irg_edge_loss(student, torch.randn(128, 512)).backward()
    """
    return relation(_loss, student, teacher, (), reduction, teacher_grad, gather)
