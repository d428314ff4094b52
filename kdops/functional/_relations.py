"""What the losses between two maps of one batch share."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from .. import _checks
from ..distributed import Gather as Gather
from ..distributed import spread
from ..reference.relations import relation as compared
from ._dispatch import RelationLoss, Scalars, Tensors, in_full_precision, native
from ._global import over_ranks
from ._rows import accumulation_dtype, same_dtype

REDUCTIONS = ("mean", "sum", "none")
CUDA_BATCHES = 32  # of one kernel, the teacher's included
Students = Tensor | Sequence[Tensor]


def relation_outputs(
    features: list[Tensor], student_grad: bool, teacher_grad: bool
) -> list[Tensor]:
    """The native ops' outputs without their values: the loss, then each gradient that is wanted."""
    *students, teacher = features
    value = teacher.new_empty((), dtype=accumulation_dtype(teacher.dtype))
    wanted = (students if student_grad else []) + ([teacher] if teacher_grad else [])
    return [value] + [x.new_empty(x.shape) for x in wanted]


def _unreduced(loss: RelationLoss, tensors: Tensors, scalars: Scalars) -> Tensor:
    assert loss.maps is not None
    *students, teacher = tensors
    make_map, compare = loss.maps
    return compared(students, teacher, lambda x: make_map(x, *scalars), compare, "none")


def relation(
    loss: RelationLoss,
    student: Students,
    teacher: Tensor,
    scalars: Scalars,
    reduction: str,
    teacher_grad: bool,
    gather: Gather,
    served: bool = True,
) -> Tensor:
    """Check, bring to one type, evaluate; an unreduced map is composed of native ones, or the
    reference's.
    """
    students = (student,) if isinstance(student, Tensor) else tuple(student)
    _checks.relation(loss.name, students, teacher)
    _checks.one_of(loss.name, "reduction", reduction, REDUCTIONS)
    if teacher.requires_grad and not teacher_grad:
        teacher = teacher.detach()
    tensors = same_dtype(*students, teacher)
    if gather is not None and spread(loss.name, gather):
        return over_ranks(loss.name, loss.formula, tensors, (*scalars, reduction), gather)
    if reduction == "none" and served and loss.maps and native(loss.name, *tensors):
        return in_full_precision(partial(_unreduced, loss), tensors, scalars)
    served = (
        served and reduction != "none" and not (teacher.is_cuda and len(tensors) > CUDA_BATCHES)
    )
    return loss(tensors, (*scalars, reduction), served=served)
