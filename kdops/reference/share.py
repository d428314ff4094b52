"""The rows that a map has of a batch: all of them, or some; its columns are the whole batch's."""

from collections.abc import Callable

import torch
from torch import Tensor


class Share:
    """Rows start to stop, and sums over them alone; a rank's share of a batch is a subclass."""

    def __init__(self, start: int = 0, stop: int | None = None):
        self.start, self.stop = start, stop

    def rows(self, x: Tensor) -> Tensor:
        return x[self.start : self.stop]

    def off_diagonal(self, x: Tensor) -> Tensor:
        index = torch.arange(x.shape[0], device=x.device)
        return self.rows(index)[:, None] != index

    def squared_distances(self, x: Tensor) -> Tensor:
        """|x_i - x_j|^2 by direct differences: exact zeros, nothing cancels."""
        return (self.rows(x)[:, None] - x[None]).square().sum(-1)

    def products(self, x: Tensor) -> Tensor:
        return self.rows(x) @ x.mT

    def total(self, value: Tensor) -> Tensor:
        return value.sum()

    def largest(self, value: Tensor) -> Tensor:
        """The maximum, its gradient split evenly over ties."""
        return value.amax()

    def by_vertices(self, formula: Callable[["Share"], Tensor]) -> Tensor:
        """formula(share), a loss of cubic maps: rows of it, or their sum."""
        return formula(self)


WHOLE = Share()
