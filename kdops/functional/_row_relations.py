"""What the losses between maps with normalised rows share."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .. import _checks
from ..distributed import Gather, spread
from ._dispatch import RelationLoss, Scalars
from ._global import over_ranks
from ._relations import relation_outputs
from ._rows import same_dtype

REDUCTIONS = {"sum": 0, "batchmean": 1, "mean": 2, "none": None}  # the power of N in the divisor


def row_relation_fake(features: list[Tensor], *scalars: Any) -> Sequence[Tensor]:
    return relation_outputs(features, scalars[-1], False)


def row_relation(
    loss: RelationLoss,
    student: Tensor,
    teacher: Tensor,
    scalars: Scalars,
    reduction: str,
    teacher_grad: bool,
    gather: Gather,
    served: bool = True,
) -> Tensor:
    """Check, bring to one type, evaluate; the reference serves what the kernel does not."""
    _checks.relation(loss.name, (student,), teacher)
    _checks.one_of(loss.name, "reduction", reduction, REDUCTIONS)
    if teacher.requires_grad and not teacher_grad:
        teacher = teacher.detach()
    tensors = same_dtype(student, teacher)
    if gather is not None and spread(loss.name, gather):
        return over_ranks(loss.name, loss.formula, tensors, (*scalars, reduction), gather)
    served = served and reduction != "none" and not teacher.requires_grad
    return loss(tensors, (*scalars, reduction), served=served)
