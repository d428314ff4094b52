"""IRG's transformation: how the instances, and their relations, change between two layers."""

from torch import Tensor

from .. import _checks, reference
from ..distributed import Gather, spread
from ..reference.share import WHOLE, Share
from ._composed import constant
from ._dispatch import Scalars, Tensors
from ._global import over_ranks
from ._rows import same_dtype
from .pairwise_distance import pairwise_distance

PARTS, REDUCTIONS = ("vertex", "edge"), ("mean", "sum")


def _check(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], part: str) -> None:
    name = "irg_transform_loss"
    for side, layers in (("student", student), ("teacher", teacher)):
        _checks.pair(name, side, layers)
        for x in layers:
            _checks.features(name, side, x)
        if part == "vertex":
            _checks.same_width(name, side, layers)
    for x in teacher:
        _checks.relation(name, student, x)


def _edge_change(*layers: Tensor) -> Tensor:
    first, second = (pairwise_distance(x, squared=True, normalize="max") for x in layers)
    return (first - second).square().sum()


def _formula(tensors: Tensors, scalars: Scalars, share: Share = WHOLE) -> Tensor:
    part, reduction = scalars
    return reference.irg_transform_loss(
        tensors[:2], tensors[2:], part=part, reduction=reduction, share=share
    )


def irg_transform_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    *,
    part: str = "vertex",
    reduction: str = "mean",
    teacher_grad: bool = False,
    gather: Gather = None,
) -> Tensor:
    """Squared difference of what happens to a batch between two layers.

        'vertex':  1/N sum_i (u_i - u'_i)^2,   u_i = |a_i - b_i|^2 / max_j |a_j - b_j|^2
        'edge':    (v - v')^2,   v = 1/N^2 sum_ij (A_ij - B_ij)^2

    a, b are the rows of student's two layers, A and B their squared distances over their maximum
    as in `irg_edge_loss`; primes are the teacher's.

    Args:
        student: a pair of (N, D) features, of two layers; float32, float64, bfloat16 or float16.
        teacher: a pair of (N, D') features; its D' may differ from D, another float type is
            promoted.
        part: 'vertex' needs the same D in the two layers of a network, 'edge' does not.
        reduction: 'mean' as above; 'sum' leaves out 1/N, and 1/N^2.
        teacher_grad: whether the teacher gets its gradient too.
        gather: None takes the batch of this process; 'all', or a process group, the batch of its
            ranks, which must all call: each returns the loss of the whole batch and backward gives
            the gradient of the ranks' sum, world_size times the loss's; see `kdops.distributed`.
    Returns:
        A scalar; float32, float64 for float64 inputs. No row: 0. Layers that are equal have a
        change of 0.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
        RuntimeError: for tensors on two devices, or gather without a process group.
    Gradient:
        To student, and to teacher with teacher_grad; twice differentiable. The maximum takes part.
    Source: Liu, Cao, Li, Yuan, Hu, Li, Duan, 2019, "Knowledge Distillation via Instance
        Relationship Graph", section 3.3. `kdops.compat.caffe` has the authors' layers.

    >>> layers = torch.randn(2, 64, 32, requires_grad=True)
    >>> irg_transform_loss((layers[0], layers[1]), tuple(torch.randn(2, 64, 128))).backward()
    """
    _checks.one_of("irg_transform_loss", "part", part, PARTS)
    _checks.one_of("irg_transform_loss", "reduction", reduction, REDUCTIONS)
    _check(student, teacher, part)
    tensors = same_dtype(*student, *(constant(x, teacher_grad) for x in teacher))
    if gather is not None and spread("irg_transform_loss", gather):
        return over_ranks("irg_transform_loss", _formula, tensors, (part, reduction), gather)
    if part == "vertex":
        return _formula(tensors, (part, reduction))
    count = max(1, len(tensors[0]) ** 2) if reduction == "mean" else 1
    ours, theirs = _edge_change(*tensors[:2]), _edge_change(*tensors[2:])
    return (ours / count - theirs / count).square()
