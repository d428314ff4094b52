"""PKT's and HKD's loss: divergence of the conditional probabilities that two maps amount to."""

from collections.abc import Sequence

from torch import Tensor

from .. import _checks, reference
from .._native import define
from ..distributed import Gather
from ..reference.share import WHOLE, Share
from ._dispatch import RelationLoss, Scalars, Tensors
from ._row_relations import REDUCTIONS, row_relation, row_relation_fake

KERNELS, DIVERGENCES = ("cosine", "student_t"), ("kl", "jeffreys")

_op = define(
    "_pkt_loss(Tensor[] features, bool student_t, bool jeffreys, bool self_pairs, float eps, "
    "int power, bool student_grad) -> Tensor[]",
    row_relation_fake,
)


def _native(tensors: Tensors, scalars: Scalars, student_grad: bool, _: bool) -> Sequence[Tensor]:
    kernel, divergence, include_self, eps, reduction = scalars
    student_t, jeffreys = kernel == "student_t", divergence == "jeffreys"
    power = REDUCTIONS[reduction]
    return _op(list(tensors), student_t, jeffreys, include_self, eps, power, student_grad)


def _formula(tensors: Tensors, scalars: Scalars, share: Share = WHOLE) -> Tensor:
    kernel, divergence, include_self, eps, reduction = scalars
    return reference.pkt_loss(
        *tensors,
        kernel=kernel,
        divergence=divergence,
        include_self=include_self,
        eps=eps,
        reduction=reduction,
        share=share,
    )


_loss = RelationLoss("pkt_loss", _native, _formula)


def pkt_loss(
    student: Tensor,
    teacher: Tensor,
    *,
    kernel: str = "cosine",
    divergence: str = "kl",
    include_self: bool = True,
    reduction: str = "batchmean",
    eps: float = 0.0,
    teacher_grad: bool = False,
    gather: Gather = None,
) -> Tensor:
    """Divergence of the probabilities with which a row takes another for its neighbour.

        1/N sum_i D(p_i, q_i),   q_ij = k_ij / sum_m k_im

    k_ij is (1 + cos(student_i, student_j)) / 2 or 1 / (1 + |student_i - student_j|), p the
    teacher's; D is KL(p || q) = sum_j p log(p / q) or Jeffreys' KL(p || q) + KL(q || p). Both are
    sums of terms >= 0: never negative, exactly 0 for equal maps.

    Args:
        student: (N, D) features; float32, float64, bfloat16 or float16.
        teacher: (N, D') features; D' may differ from D, another float type is promoted.
        kernel: 'cosine' or 'student_t'. The second depends on the features' scale: bring lengths
            to about 1 first.
        divergence: 'kl' or 'jeffreys'.
        include_self: whether a row counts among its own neighbours, as in all published code; the
            paper sums over j != i.
        reduction: 'batchmean' divides by N; 'mean' by N^2, as published code does, which is why
            its weights are about 3e4; 'sum'; 'none' gives one value a row, through the reference.
        eps: 0..1, the published 1e-7: added to lengths, to squared distances, and for 'kl' to both
            probabilities in the logarithm. Above 0 the reference computes 'student_t' and
            'jeffreys'.
        teacher_grad: whether the teacher gets its gradient too, through the reference.
        gather: None takes the batch of this process; 'all', or a process group, the batch of its
            ranks, which must all call: each returns the loss of the whole batch ('none': its own
            rows of the map) and backward gives the gradient of the ranks' sum, world_size times
            the loss's; see `kdops.distributed`.
    Returns:
        A scalar, (N,) for 'none'; float32, float64 for float64 inputs. No pair: 0. Where rows of
        the student are exactly opposite and the teacher's are not: inf; for 'jeffreys' in the
        other case too. Such a pair has no gradient.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
        RuntimeError: for tensors on two devices, or gather without a process group.
    Gradient:
        To student, and to teacher with teacher_grad. A zero row has cosine 0 with all rows and gets
        no gradient, with eps one of the order of 1 / eps; equal rows none from each other. Equal
        maps get none, with eps one of the order of eps: its minimum is beside them. Second
        derivatives go through the reference. Bitwise repeatable on any number of threads.
    Memory: half an N x N map a side.
    Source: Passalis, Tefas, 2018, "Learning Deep Representations with Probabilistic Knowledge
        Transfer", section 3; Passalis, Tzelepi, Tefas, 2020, "Heterogeneous Knowledge Distillation
        using Information Flow Modeling", section 3, for Jeffreys and Student-t.

    >>> student = torch.randn(128, 64, requires_grad=True)
    >>> pkt_loss(student, torch.randn(128, 512)).backward()
    """
    _checks.one_of("pkt_loss", "kernel", kernel, KERNELS)
    _checks.one_of("pkt_loss", "divergence", divergence, DIVERGENCES)
    _checks.number("pkt_loss", "eps", eps, low=0, high=1)
    scalars = (kernel, divergence, bool(include_self), eps)
    served = eps == 0 or (kernel == "cosine" and divergence == "kl")
    return row_relation(_loss, student, teacher, scalars, reduction, teacher_grad, gather, served)
