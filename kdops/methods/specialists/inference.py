"""One answer out of a generalist's and its specialists': the distribution nearest to all."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ... import _checks
from ...reference.numbers import accumulation
from .subset import checked


class _Problem(NamedTuple):
    generalist: Tensor  # (B, K)
    specialists: tuple[Tensor, ...]  # (B, |S^m|), without the dustbin
    classes: tuple[Tensor, ...]  # columns S^m
    dustbin: Tensor  # (B, M); 0 where a specialist is not active or has none
    rest: Tensor  # (M, K), 1 in the columns that are not in S^m
    active: Tensor  # (B, M)


def _members(classes: Sequence[Sequence[int]], like: Tensor) -> Tensor:
    """(M, K) bool, whether a class is in S^m."""
    members = torch.zeros(len(classes), like.shape[1], dtype=torch.bool, device=like.device)
    for row, each in zip(members, classes, strict=True):
        row[list(each)] = True
    return members


def active_specialists(
    generalist: Tensor, classes: Sequence[Sequence[int]], *, top: int = 1
) -> Tensor:
    """Which specialists are asked: those with one of the generalist's `top` most probable classes.

    Args:
        generalist: (B, K) probabilities or logits.
        classes: S^m of each of M specialists.
        top: n in 1..K, the paper's 1. Of equal entries the first counts.
    Returns:
        (B, M) bool.
    Raises:
        TypeError, ValueError: for wrong types, shapes or ranges.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section
        5.4.

    >>> active_specialists(torch.tensor([[0.6, 0.1, 0.3]]), [(0, 1), (1, 2)])
    tensor([[ True, False]])
    """
    _checks.features("active_specialists", "generalist", generalist)
    total = generalist.shape[1]
    _checks.integer("active_specialists", "top", top, 1, total)
    classes = [checked("active_specialists", each, total) for each in classes]
    first = generalist.sort(dim=1, descending=True, stable=True).indices[:, :top]
    return _members(classes, generalist)[:, first].any(2).T


def _check(
    function: str,
    generalist: Tensor,
    specialists: Sequence[Tensor],
    classes: Sequence[Sequence[int]],
    active: Tensor | None,
) -> Sequence[Sequence[int]]:
    _checks.probabilities(function, "generalist", generalist)
    if len(specialists) != len(classes):
        raise ValueError(
            f"{function}: specialists and classes must have one entry a specialist, "
            f"got {len(specialists)} and {len(classes)}"
        )
    rows, total = generalist.shape
    classes = [checked(function, each, total) for each in classes]
    for m, (p, each) in enumerate(zip(specialists, classes, strict=True)):
        _checks.tensor(function, f"specialists[{m}]", p)
        if p.device != generalist.device:
            raise RuntimeError(
                f"{function}: generalist and specialists[{m}] must be on one device, "
                f"got {generalist.device} and {p.device}"
            )
        _checks.probabilities(function, f"specialists[{m}]", p)
        width = len(each) + (len(each) < total)
        if p.shape != (rows, width):
            raise ValueError(
                f"{function}: specialists[{m}] must be {(rows, width)}, {len(each)} classes "
                f"{'and a dustbin' if width > len(each) else 'of all'}, got {tuple(p.shape)}"
            )
    if active is not None and (
        not isinstance(active, Tensor)
        or active.dtype is not torch.bool
        or active.shape != (rows, len(classes))
    ):
        got = tuple(active.shape) if isinstance(active, Tensor) else type(active).__name__
        raise ValueError(
            f"{function}: active must be a bool tensor {(rows, len(classes))}, got {got}"
        )
    return classes


def _problem(
    function: str,
    generalist: Tensor,
    specialists: Sequence[Tensor],
    classes: Sequence[Sequence[int]],
    active: Tensor | None,
    top: int,
) -> _Problem:
    classes = _check(function, generalist, specialists, classes, active)
    if active is None:
        active = active_specialists(generalist, classes, top=top)
    generalist = accumulation(generalist)
    specialists = [p.to(generalist.dtype) for p in specialists]
    members = _members(classes, generalist)
    dustbin = [
        p[:, -1] if p.shape[1] > len(each) else torch.zeros_like(p[:, 0])
        for p, each in zip(specialists, classes, strict=True)
    ]
    dustbin = torch.stack(dustbin, 1) if dustbin else generalist[:, :0]
    return _Problem(
        generalist,
        tuple(p[:, : len(each)] for p, each in zip(specialists, classes, strict=True)),
        tuple(torch.tensor(each, device=generalist.device) for each in classes),
        torch.where(active, dustbin, 0.0),
        (~members).to(generalist.dtype),
        active,
    )


def combination_objective(
    q: Tensor,
    generalist: Tensor,
    specialists: Sequence[Tensor],
    classes: Sequence[Sequence[int]],
    *,
    active: Tensor | None = None,
    top: int = 1,
) -> Tensor:
    """F(q) = KL(p^g || q) + sum over active m of KL(p^m || q^m): see `combine_specialists`.

    q^m has q's entries in S^m, and the sum of all others for the dustbin.

    Args:
        q: (B, K) probabilities.
        generalist, specialists, classes, active, top: as of `combine_specialists`.
    Returns:
        (B,); +inf where q is 0 and one of the others is not.
    Raises:
        TypeError, ValueError, RuntimeError: as of `combine_specialists`.
    Gradient:
        By autograd.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", equation 5.
    """
    _checks.probabilities("combination_objective", "q", q)
    if q.shape != generalist.shape:
        raise ValueError(
            f"combination_objective: q must have generalist's shape {tuple(generalist.shape)}, "
            f"got {tuple(q.shape)}"
        )
    problem = _problem("combination_objective", generalist, specialists, classes, active, top)
    q = q.to(problem.generalist.dtype)
    value = _kl(problem.generalist, q).sum(1)
    for m, (p, columns) in enumerate(zip(problem.specialists, problem.classes, strict=True)):
        term = _kl(p, q[:, columns]).sum(1)
        term = term + _kl(problem.dustbin[:, m], (q * problem.rest[m]).sum(1))
        value = value + torch.where(problem.active[:, m], term, 0.0)
    return value


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """Terms p log(p / q), 0 where p is."""
    return torch.xlogy(p, p) - torch.xlogy(p, q)


def combine_specialists(
    generalist: Tensor,
    specialists: Sequence[Tensor],
    classes: Sequence[Sequence[int]],
    *,
    active: Tensor | None = None,
    top: int = 1,
    steps: int = 30,
) -> Tensor:
    """The distribution q that minimises KL(p^g || q) + sum over active m of KL(p^m || q^m).

    q^m has q's entries in S^m, and the sum of all others, Q_m, for the dustbin. Where the paper
    takes gradient steps on logits, this takes the fixed point of the stationary condition,

        q_j <- (p^g_j + sum_m r^m_j) / (1 + |A|),  r^m_j = p^m_j in S^m, else p^m_dustbin q_j / Q_m

    an EM step: F, which is convex, never rises, and there is no step size. One step is exact for
    one active specialist, and at top=1 disjoint sets have no more; several converge linearly.

    Args:
        generalist: (B, K) probabilities, p^g; float32, float64, bfloat16 or float16.
        specialists: M tensors (B, |S^m| + 1), the dustbin last; (B, K) for one of all classes.
        classes: S^m of each, in the order of its columns.
        active: (B, M) bool, A; by default `active_specialists(generalist, classes, top=top)`.
        top: see there.
        steps: >= 1.
    Returns:
        (B, K); float32, float64 for a float64 generalist. The generalist's own row where no
        specialist is active. NaN stays in its row, and an inactive specialist's is not read.
    Raises:
        TypeError: for a wrong type. ValueError: for shapes, classes, or rows that are no
        probabilities, whose check is a synchronisation on a GPU. RuntimeError: for two devices.
    Gradient:
        By autograd through the steps.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section
        5.4, equation 5.

    >>> p = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    >>> combine_specialists(p, [torch.tensor([[0.2, 0.6, 0.2]])], [(0, 1)])
    tensor([[0.3000, 0.4500, 0.1667, 0.0833]])
    """
    _checks.integer("combine_specialists", "steps", steps, 1)
    problem = _problem("combine_specialists", generalist, specialists, classes, active, top)
    q, rest = problem.generalist, problem.rest
    fixed = q
    for m, (p, columns) in enumerate(zip(problem.specialists, problem.classes, strict=True)):
        fixed = fixed.index_add(1, columns, torch.where(problem.active[:, m, None], p, 0.0))
    # an entry of 0 stays 0: this lets a dustbin's mass in where the generalist has none
    floor = torch.finfo(q.dtype).tiny / torch.finfo(q.dtype).eps
    q = q.clamp(min=floor)
    count = 1 + problem.active.sum(1, keepdim=True)
    for _ in range(steps):
        weight = problem.dustbin / (q @ rest.T).clamp(min=floor)
        q = (fixed + q * (weight @ rest)) / count
    return q
