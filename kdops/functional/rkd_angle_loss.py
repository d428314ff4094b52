"""RKD's angle loss: Huber between the angles of all triplets."""

from collections.abc import Sequence

from torch import Tensor

from .. import _checks, reference
from .._native import define
from ..distributed import Gather
from ..reference import relations
from ..reference.share import WHOLE, Share
from ._dispatch import RelationLoss, Scalars, Tensors
from ._relations import Students, relation, relation_outputs
from .triplet_angle import triplet_angle


def _fake(
    features: list[Tensor], eps: float, mean: bool, student_grad: bool, teacher_grad: bool
) -> Sequence[Tensor]:
    return relation_outputs(features, student_grad, teacher_grad)


_op = define(
    "_rkd_angle_loss(Tensor[] features, float eps, bool mean, bool student_grad, "
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
    return reference.rkd_angle_loss(students, teacher, eps=eps, reduction=reduction, share=share)


def _angles(x: Tensor, eps: float) -> Tensor:
    return triplet_angle(x, eps=eps)


_loss = RelationLoss("rkd_angle_loss", _native, _formula, (_angles, relations.huber))


def rkd_angle_loss(
    student: Students,
    teacher: Tensor,
    *,
    reduction: str = "mean",
    eps: float = 0.0,
    teacher_grad: bool = False,
    gather: Gather = None,
) -> Tensor:
    """Huber distance of the cosines of all triplets, at the vertex i between j and k.

        1/N^3 sum_ijk h(cos_ijk - cos'_ijk),   cos_ijk = <e_ij, e_ik>,  e_ij = (x_j - x_i) / d_ij

    cos' is the teacher's, h(u) = u^2 / 2 for |u| < 1 and |u| - 1/2 beyond. The cosines come from
    the map of squared distances: memory O(N^2), where the published code builds N x N x D and
    N x N x N tensors.

    Args:
        student: (N, D) features, or a sequence of them, one a student layer: the result is the
            sum over the layers, and the teacher's map is built once.
        teacher: (N, D') features; D' may differ from D, another float type is promoted.
        reduction: 'mean' divides by N^3, degenerate triplets included, as published; 'sum'; 'none'
            gives the (N, N, N) Huber values, vertex first.
        eps: lower bound of a pair's length, >= 0; 1e-12 is the published code's.
        teacher_grad: whether the teacher gets its gradient too.
        gather: None takes the batch of this process; 'all', or a process group, the batch of its
            ranks, which must all call: each returns the loss of the whole batch ('none': its own
            rows of the map) and backward gives the gradient of the ranks' sum, world_size times
            the loss's; see `kdops.distributed`.
    Returns:
        A scalar, (N, N, N) for 'none'; float32, float64 for float64 inputs. Fewer than three rows:
        0. Scales from 1e-30 to 1e30 are exact.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
        RuntimeError: for tensors on two devices, or gather without a process group.
    Gradient:
        To student, and to teacher with teacher_grad. A pair at distance 0 has unit vector 0 and
        subgradient 0; a batch with near-duplicates is computed in float64. Second derivatives go
        through the reference. Bitwise repeatable on any number of threads.
    Source: Park, Kim, Lu, Cho, 2019, "Relational Knowledge Distillation", section 3.2.2.

    >>> student = torch.randn(128, 64, requires_grad=True)
    >>> rkd_angle_loss(student, torch.randn(128, 512)).backward()
    """
    _checks.number("rkd_angle_loss", "eps", eps, low=0)
    return relation(_loss, student, teacher, (eps,), reduction, teacher_grad, gather)
