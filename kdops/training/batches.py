"""The batches of a run: the same for a seed, from any step on, in any number of processes."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from .data import Part


class UniformBatchSampler:
    """Every row once an epoch, in an order of its own; what does not fill a batch is left out."""

    def __init__(self, rows: int, batch_size: int, seed: int):
        self.rows, self.batch_size, self.seed, self.epoch = rows, min(batch_size, rows), seed, 0

    def __len__(self) -> int:
        return self.rows // self.batch_size

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        generator = generator_of(self.seed, self.epoch)
        order = torch.randperm(self.rows, generator=generator).tolist()
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size]


def generator_of(*key: int) -> torch.Generator:
    """Random numbers that depend on all of the key."""
    seed = 0
    for number in key:
        seed = (seed * 0x9E3779B1 + number + 1) % 2**63
    return torch.Generator().manual_seed(seed)


def share(items: list, rank: int, world_size: int) -> list:
    """A process's part of a global batch; the first ones take what does not divide."""
    each, rest = divmod(len(items), world_size)
    start = rank * each + min(rank, rest)
    return items[start : start + each + (rank < rest)]


def shifted(images: Tensor, offsets: Tensor, reach: int) -> Tensor:
    """Each image moved by its own (down, right) offset in 0 .. 2 reach; `reach` moves nothing."""
    height, width = images.shape[-2:]
    views = F.pad(images, [reach] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return views[torch.arange(len(images)), :, offsets[:, 0], offsets[:, 1]]


class _Steps:
    """Row numbers of each step from `start` on, this process's share of each, once a view."""

    def __init__(self, sampler, start: int, steps: int, rank: int, world_size: int, views: int):
        self.sampler, self.start, self.steps = sampler, start, steps
        self.rank, self.world_size, self.views = rank, world_size, views

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        step, epoch = self.start, self.start // len(self.sampler)
        skip = self.start % len(self.sampler)
        while step < self.steps:
            self.sampler.set_epoch(epoch)
            for rows in list(self.sampler)[skip : skip + self.steps - step]:
                yield share(rows, self.rank, self.world_size) * self.views
                step += 1
            epoch, skip = epoch + 1, 0


class Batches:
    """Images and labels of every step, shifted by random offsets of up to `reach` pixels.

    For several `views` the images are (views, N, ...): the same rows, each view with its own
    offsets, the first one with those of a single view.
    """

    def __init__(
        self,
        part: Part,
        sampler,
        *,
        reach: int = 0,
        seed: int = 0,
        workers: int = 0,
        views: int | None = None,
    ):
        if len(sampler) < 1:
            raise ValueError(f"{len(part)} rows are fewer than one batch")
        self.part, self.sampler, self.reach = part, sampler, reach
        self.seed, self.workers, self.views = seed, workers, views

    def epoch(self, step: int) -> int:
        return step // len(self.sampler)

    def steps(
        self, start: int, steps: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, labels) of the steps from `start` to `steps`."""
        views = self.views or 1
        rows = _Steps(self.sampler, start, steps, rank, world_size, views)
        loader = DataLoader(
            self.part,
            # that a run goes on takes no random number of those its checkpoint has put back
            generator=generator_of(self.seed, start) if start else None,
            batch_sampler=rows,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            persistent_workers=False,
        )
        for step, (images, labels) in enumerate(loader, start):
            images, labels = images.chunk(views), labels.chunk(views)[0]
            if self.reach:
                images = self._shift(images, step, rank, world_size)
            yield images[0] if self.views is None else torch.stack(images), labels

    def _shift(
        self, views: Sequence[Tensor], step: int, rank: int, world_size: int
    ) -> list[Tensor]:
        """The offsets are those of the global batch, so they do not depend on the processes."""
        size = self.sampler.batch_size
        sides, generator = 2 * self.reach + 1, generator_of(self.seed, 1, step)
        drawn = [torch.randint(sides, (size, 2), generator=generator) for _ in views]
        mine = share(list(range(size)), rank, world_size)
        return [shifted(x, by[mine], self.reach) for x, by in zip(views, drawn, strict=True)]


class Shards:
    """Batches of other rows for each peer: images (K, N, ...), labels (K, N)."""

    def __init__(self, peers: Sequence[Batches]):
        self.peers = peers

    def epoch(self, step: int) -> int:
        return self.peers[0].epoch(step)

    def steps(
        self, start: int, steps: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(images, labels) of the steps from `start` to `steps`."""
        streams = [peer.steps(start, steps, rank, world_size) for peer in self.peers]
        for batches in zip(*streams, strict=True):
            images, labels = zip(*batches, strict=True)
            yield torch.stack(images), torch.stack(labels)


def disjoint(part: Part, count: int, seed: int) -> list[Part]:
    """As many parts without a row in common, of one size, with the classes in the same shares."""
    order = torch.randperm(len(part), generator=generator_of(seed, 2))
    order = order[part.labels[order].argsort(stable=True)]
    return [part[order[i::count][: len(part) // count]] for i in range(count)]


def _as_it_is(batch):
    return batch
