"""A rank's share of a batch: its rows of every map, and sums over the rows of all ranks."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..reference.numbers import accumulation
from ..reference.share import Share
from . import collectives
from .agreement import Gather, process_group, row_counts

CHUNK = 2**22  # elements of an intermediate cubic tensor, unless one row of a map has more


def _chunks(start: int, stop: int, width: int) -> list[tuple[int, int]]:
    """Consecutive ranges of rows with `width` elements each; of no row one empty range."""
    rows = max(1, CHUNK // max(1, width))
    return [(i, min(i + rows, stop)) for i in range(start, max(stop, start + 1), rows)]


class RankShare(Share):
    """The rows of this rank of a batch whose features all ranks have."""

    stop: int

    def __init__(self, counts: list[int], columns: int, group: Any):
        rank, batch = dist.get_rank(group), sum(counts)
        super().__init__(sum(counts[:rank]), sum(counts[: rank + 1]))
        self.vertex, self.group = batch * max(batch, columns), group  # elements of one vertex

    def squared_distances(self, x: Tensor) -> Tensor:
        """By direct differences too, which are not kept; differentiable once."""
        ranges = _chunks(self.start, self.stop, x.numel())  # a GPU's backward has all differences
        exact = "donot_use_mm_for_euclid_dist"
        parts = [torch.cdist(x[start:stop], x, compute_mode=exact) for start, stop in ranges]
        return torch.cat(parts).square()

    def products(self, x: Tensor) -> Tensor:
        return self.rows(x) @ x.mT

    def total(self, value: Tensor) -> Tensor:
        return collectives.total(value.sum(), self.group)

    def largest(self, value: Tensor) -> Tensor:
        ours = value.detach().amax() if value.numel() else value.new_full((), -torch.inf)
        ties = value == collectives.maximum(ours, self.group)
        both = torch.stack([torch.where(ties, value, 0.0).sum(), ties.sum().to(value)])
        value, count = collectives.total(both, self.group).unbind()
        return value / count

    def by_vertices(self, formula: Callable[[Share], Tensor]) -> Tensor:
        """Some vertices at a time, whose N x N angles are made again in the backward pass."""
        values = [
            checkpoint(formula, Share(*some), use_reentrant=False, preserve_rng_state=False)
            for some in _chunks(self.start, self.stop, self.vertex)
        ]
        return torch.cat(values) if values[0].dim() else self.total(torch.stack(values))


def global_loss(
    function: str,
    formula: Callable[..., Tensor],
    tensors: tuple[Tensor, ...],
    scalars: tuple[Any, ...],
    gather: Gather,
) -> Tensor:
    """formula(tensors, scalars, share) of the batch of all ranks; reduced on every rank alike."""
    group = process_group(gather)
    counts = row_counts(function, tensors, scalars, group)
    share = RankShare(counts, max(x.shape[1] for x in tensors), group)
    whole = [collectives.gather(x, counts, accumulation(x[:0]).dtype, group) for x in tensors]
    return formula(tuple(whole), scalars, share)
