"""CCKD's correlation congruence: squares between two correlation maps."""

from collections.abc import Sequence

from torch import Tensor

from .. import _checks, reference
from .._native import define
from ..distributed import Gather
from ..reference import maps, relations
from ..reference.share import WHOLE, Share
from . import _correlation
from ._dispatch import RelationLoss, Scalars, Tensors
from ._relations import relation, relation_outputs
from .rbf_correlation import rbf_correlation

KERNELS = ("rbf", "bilinear", "mmd")


def _fake(
    features: list[Tensor],
    gamma: float,
    coefficients: list[float],
    normalize: bool,
    mean: bool,
    student_grad: bool,
    teacher_grad: bool,
) -> Sequence[Tensor]:
    return relation_outputs(features, student_grad, teacher_grad)


_op = define(
    "_cckd_loss(Tensor[] features, float gamma, float[] coefficients, bool normalize, bool mean, "
    "bool student_grad, bool teacher_grad) -> Tensor[]",
    _fake,
)


def _native(
    tensors: Tensors, scalars: Scalars, student_grad: bool, teacher_grad: bool
) -> Sequence[Tensor]:
    kernel, gamma, order, normalize, reduction = scalars
    bilinear = kernel == "bilinear"
    coefficients = [0.0, 1.0] if bilinear else _correlation.coefficients(gamma, order)
    mean = reduction == "mean"
    return _op(list(tensors), gamma, coefficients, normalize, mean, student_grad, teacher_grad)


def _formula(tensors: Tensors, scalars: Scalars, share: Share = WHOLE) -> Tensor:
    kernel, gamma, order, normalize, reduction = scalars
    return reference.cckd_loss(
        *tensors,
        kernel=kernel,
        gamma=gamma,
        order=order,
        normalize=normalize,
        reduction=reduction,
        share=share,
    )


def _correlations(
    x: Tensor, kernel: str, gamma: float, order: int | None, normalize: bool
) -> Tensor:
    if kernel == "rbf":
        return rbf_correlation(x, gamma=gamma, order=order, normalize=normalize)
    return maps.correlation(x, kernel, normalize)


_loss = RelationLoss("cckd_loss", _native, _formula, (_correlations, relations.square))


def cckd_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    kernel: str = "rbf",
    gamma: float = 0.4,
    order: int | None = 2,
    normalize: bool = True,
    reduction: str = "mean",
    teacher_grad: bool = False,
    gather: Gather = None,
) -> Tensor:
    """Squared difference of two correlation maps.

        1/N^2 sum_ij (K_ij - K'_ij)^2,   K of student, K' of the teacher

    Args:
        student: (N, D) features; float32, float64, bfloat16 or float16.
        teacher: (N, D') features; D' may differ from D, another float type is promoted.
        kernel: 'rbf' is `rbf_correlation`; 'bilinear' the inner product x_i . x_j; 'mmd' the
            distance of the rows' means |mean(x_i) - mean(x_j)|, through the reference.
        gamma: width of the kernel, in [0, 40]; of 'rbf' alone, as is order.
        order: of the Taylor expansion, 0..8; None takes the exact exponential.
        normalize: whether rows are brought to length 1 first, as the expansion supposes.
        reduction: 'mean' divides by N^2; 'sum'; 'none' gives the (N, N) map.
        teacher_grad: whether the teacher gets its gradient too.
        gather: None takes the batch of this process; 'all', or a process group, the batch of its
            ranks, which must all call: each returns the loss of the whole batch ('none': its own
            rows of the map) and backward gives the gradient of the ranks' sum, world_size times
            the loss's; see `kdops.distributed`.
    Returns:
        A scalar, (N, N) for 'none'; float32, float64 for float64 inputs. No row: 0.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
        RuntimeError: for tensors on two devices, or gather without a process group.
    Gradient:
        To student, and to teacher with teacher_grad. A zero row stays 0 under `normalize` and gets
        no gradient. Second derivatives go through the reference. Bitwise repeatable on any number
        of threads.
    Memory: from N = 1024 on no N x N map is kept, only tiles of it.
    Source: Peng et al., 2019, "Correlation Congruence for Knowledge Distillation", section 3.3.

    >>> student = torch.randn(128, 64, requires_grad=True)
    >>> cckd_loss(student, torch.randn(128, 512)).backward()
    """
    _correlation.check("cckd_loss", gamma, order)
    _checks.one_of("cckd_loss", "kernel", kernel, KERNELS)
    scalars = (kernel, gamma, order, normalize)
    return relation(
        _loss, (student,), teacher, scalars, reduction, teacher_grad, gather, served=kernel != "mmd"
    )
