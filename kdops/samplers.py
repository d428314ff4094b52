"""Samplers of whole batches, for `DataLoader(dataset, batch_sampler=...)`."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from . import _checks
from ._kmeans import kmeans


def _draw(rng: np.random.Generator, members: np.ndarray, amount: int) -> list[int]:
    """So many of the members: with replacement only where there are fewer."""
    return rng.choice(members, amount, replace=amount > len(members)).tolist()


def _vector(function: str, name: str, x: Tensor | Sequence[Any]) -> np.ndarray:
    x = torch.as_tensor(x).cpu().numpy()
    if x.ndim != 1 or len(x) == 0:
        raise ValueError(f"{function}: {name} must be (n,), n >= 1, got shape {x.shape}")
    return x


class _SeededBatches(Sampler[list[int]]):
    """Batches that are a function of (seed, epoch, rank) alone."""

    def __init__(self, batch_size: int, batches: int, seed: int, rank: int, world_size: int):
        name = type(self).__name__
        _checks.integer(name, "batches", batches, 1)
        _checks.integer(name, "seed", seed)
        _checks.integer(name, "world_size", world_size, 1)
        _checks.integer(name, "rank", rank, 0, world_size - 1)
        self.batch_size, self.batches = batch_size, batches
        self.seed, self.rank, self.epoch = seed, rank, 0

    def set_epoch(self, epoch: int) -> None:
        """To be called before each epoch, or all of them have the same batches."""
        self.epoch = _checks.integer(type(self).__name__, "epoch", epoch)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch, self.rank])
        for _ in range(self.batches):
            yield self._batch(rng)

    def _batch(self, rng: np.random.Generator) -> list[int]:
        raise NotImplementedError


class GroupUniformBatchSampler(_SeededBatches):
    """Batches of `per_group` examples of each of batch_size / per_group groups.

    Groups are drawn uniformly without replacement, whatever their sizes, then examples of each; so
    a batch has at least batch_size * (per_group - 1) ordered pairs of one group, where a random
    batch has about batch_size * (batch_size - 1) / groups. With classes as groups these are CCKD's
    class-uniform batches (2 or 4 a group) and the N-pair batches of RKD's metric learning (5); with
    `superclasses` they are CCKD's superclass-uniform ones.

    Args:
        groups: (n,) integers, the group of each example.
        per_group: examples of a group in a batch; with replacement only where it has fewer.
        batch_size: the last group is cut short where per_group does not divide it. With fewer
            groups than a batch takes, each is taken as often as any other, or once more.
        batches: in an epoch, of one process; ceil(n / (batch_size * world_size)) by default.
        seed: with epoch and rank it determines every batch.
        rank, world_size: of this process and number of them; each draws on its own.
    Raises:
        TypeError, ValueError: for wrong types or ranges.
    Source: Peng et al., 2019, "Correlation Congruence for Knowledge Distillation", section 3.4;
        Park et al., 2019, "Relational Knowledge Distillation", section 4.1.

    >>> sampler = GroupUniformBatchSampler(torch.arange(100) % 10, 2, 8)
    >>> len(sampler), len(next(iter(sampler)))
    (13, 8)
    """

    def __init__(
        self,
        groups: Tensor | Sequence[int],
        per_group: int,
        batch_size: int,
        *,
        batches: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        name = type(self).__name__
        groups = _vector(name, "groups", groups)
        if not np.issubdtype(groups.dtype, np.integer):
            raise TypeError(f"{name}: groups must be integers, got {groups.dtype}")
        _checks.integer(name, "batch_size", batch_size, 1)
        _checks.integer(name, "per_group", per_group, 1, batch_size)
        if batches is None:
            batches = math.ceil(len(groups) / (batch_size * max(world_size, 1)))
        super().__init__(batch_size, batches, seed, rank, world_size)
        self.per_group = per_group
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order])) + 1
        self.members = np.split(order, starts)  # of each group that is not empty

    def _batch(self, rng: np.random.Generator) -> list[int]:
        places, groups = math.ceil(self.batch_size / self.per_group), len(self.members)
        rounds = math.ceil(places / groups)
        chosen = np.concatenate([rng.permutation(groups) for _ in range(rounds)])[:places]
        # a group that repeats is drawn from once, so that its examples differ while it has enough
        amounts = Counter(np.repeat(chosen, self.per_group)[: self.batch_size].tolist())
        return [
            example
            for group, amount in amounts.items()
            for example in _draw(rng, self.members[group], amount)
        ]


class HalfAndHalfBatchSampler(_SeededBatches):
    """Batches for a specialist: half of its classes, half at random from all others.

    Args:
        inside: (n,) bool, whether an example is of the specialist's classes:
            `torch.isin(labels, torch.tensor(classes))`.
        batch_size: at least 2.
        batches: in an epoch, of one process; by default as many as take n examples inside,
            n their number, over all processes.
        share: of a batch that is inside, rounded to whole examples, at least one on either side;
            the attribute `share` is what it came to, for `dustbin_bias(..., sampled=...)`.
        seed, rank, world_size: as of `GroupUniformBatchSampler`.
    Raises:
        TypeError, ValueError: for wrong types or ranges, or without examples on either side.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section
        5.2.

    >>> sampler = HalfAndHalfBatchSampler(torch.arange(100) < 10, 8)
    >>> [example < 10 for example in next(iter(sampler))]
    [True, True, True, True, False, False, False, False]
    """

    def __init__(
        self,
        inside: Tensor | Sequence[bool],
        batch_size: int,
        *,
        batches: int | None = None,
        share: float = 0.5,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        name = type(self).__name__
        inside = _vector(name, "inside", inside)
        if inside.dtype != bool:
            raise TypeError(f"{name}: inside must be bool, got {inside.dtype}")
        if inside.all() or not inside.any():
            raise ValueError(f"{name}: inside must have examples on both sides, got one alone")
        _checks.integer(name, "batch_size", batch_size, 2)
        if not 0 < _checks.number(name, "share", share) < 1:
            raise ValueError(f"{name}: share must be between 0 and 1, got {share}")
        self.inside, self.outside = np.flatnonzero(inside), np.flatnonzero(~inside)
        self.amount = min(max(round(share * batch_size), 1), batch_size - 1)
        self.share = self.amount / batch_size
        if batches is None:
            batches = math.ceil(len(self.inside) / (self.amount * max(world_size, 1)))
        super().__init__(batch_size, batches, seed, rank, world_size)

    def _batch(self, rng: np.random.Generator) -> list[int]:
        return _draw(rng, self.inside, self.amount) + _draw(
            rng, self.outside, self.batch_size - self.amount
        )


def superclasses(features: Tensor, clusters: int, *, seed: int = 0) -> Tensor:
    """Groups for `GroupUniformBatchSampler` out of a teacher's features, by k-means.

    Args:
        features: (n, D) of all examples, finite; at least `clusters` rows.
        clusters: number of superclasses.
        seed: of the starts of k-means.
    Returns:
        (n,) int64 in [0, clusters), on the CPU.
    Raises:
        ImportError: without scikit-learn. TypeError, ValueError: for wrong types, shapes or ranges.
    Source: Peng et al., 2019, "Correlation Congruence for Knowledge Distillation", section 3.4.
    """
    return kmeans("superclasses", "features", features, clusters, seed)[0]
