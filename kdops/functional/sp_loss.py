"""SP's loss: squares between two maps of inner products with normalised rows."""

from collections.abc import Sequence

from torch import Tensor

from .. import _checks, reference
from .._native import define
from ..distributed import Gather
from ..reference.share import WHOLE, Share
from ._dispatch import RelationLoss, Scalars, Tensors
from ._row_relations import REDUCTIONS, row_relation, row_relation_fake

_op = define(
    "_sp_loss(Tensor[] features, int norm, int power, bool student_grad) -> Tensor[]",
    row_relation_fake,
)


def _native(tensors: Tensors, scalars: Scalars, student_grad: bool, _: bool) -> Sequence[Tensor]:
    norm, reduction = scalars
    return _op(list(tensors), norm, REDUCTIONS[reduction], student_grad)


def _formula(tensors: Tensors, scalars: Scalars, share: Share = WHOLE) -> Tensor:
    norm, reduction = scalars
    return reference.sp_loss(*tensors, norm=norm, reduction=reduction, share=share)


_loss = RelationLoss("sp_loss", _native, _formula)


def sp_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    reduction: str = "mean",
    norm: int = 2,
    teacher_grad: bool = False,
    gather: Gather = None,
) -> Tensor:
    """Similarity-preserving distillation: squared difference of row-normalised Gram matrices.

        1/N^2 sum_ij (G_ij / |G_i| - G'_ij / |G'_i|)^2,   G_ij = <student_i, student_j>

    G' is the teacher's. The rows are normalised after the product, not before it.

    Args:
        student: (N, D) features; float32, float64, bfloat16 or float16.
        teacher: (N, D') features; D' may differ from D, another float type is promoted.
        reduction: 'mean' divides by N^2, 'batchmean' by N; 'sum'; 'none' gives the (N, N) map,
            through the reference.
        norm: of a row of G: 2, its length; 1, its sum of magnitudes, as torchdistill has it.
        teacher_grad: whether the teacher gets its gradient too, through the reference.
        gather: None takes the batch of this process; 'all', or a process group, the batch of its
            ranks, which must all call: each returns the loss of the whole batch ('none': its own
            rows of the map) and backward gives the gradient of the ranks' sum, world_size times
            the loss's; see `kdops.distributed`.
    Returns:
        A scalar, (N, N) for 'none'; float32, float64 for float64 inputs. No row: 0. Scales of the
        batch from 1e-30 to 1e30 change nothing.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or choice.
        RuntimeError: for tensors on two devices, or gather without a process group.
    Gradient:
        To student, and to teacher with teacher_grad. A zero row of G stays 0 and gets none. Second
        derivatives go through the reference. Bitwise repeatable on any number of threads.
    Memory: half an N x N map a side.
    Source: Tung, Mori, 2019, "Similarity-Preserving Knowledge Distillation", section 3.1.

    >>> student = torch.randn(128, 64, requires_grad=True)
    >>> sp_loss(student, torch.randn(128, 512)).backward()
    """
    _checks.one_of("sp_loss", "norm", norm, (1, 2))
    return row_relation(_loss, student, teacher, (norm,), reduction, teacher_grad, gather)
