"""What the methods share whose loss relates the samples of a batch."""

from typing import Any

from torch import Tensor

from .. import _checks
from ..taps import Outputs
from .method import Method

POOLINGS = ("mean", "flatten")


class Relation(Method):
    """A method over rows of features, two at least.

    Args:
        pooling: of feature maps: 'mean' over positions, or 'flatten'.
        gather: 'all' relates the batches of all processes, see `kdops.distributed`.
        options: of `Method`.
    """

    least_rows = 2

    def __init__(self, *, pooling: str = "mean", gather: str | None = None, **options: Any):
        super().__init__(**options)
        _checks.one_of(type(self).__name__, "pooling", pooling, POOLINGS)
        self.pooling, self.gather = pooling, gather

    def rows(self, outputs: Outputs | None, layer: str) -> Tensor:
        """(N, D) features; the layer 'logits' is the output itself.

        Raises:
            ValueError: for fewer rows than the relation is between, and for features of which it
            is not known what their positions are: (N, T, D) might be tokens, or a signal.
        """
        x = self.feature(outputs, layer)
        if len(x) < self.least_rows and self.gather is None:
            raise ValueError(
                f"{type(self).__name__}: a batch must have at least {self.least_rows} rows, the "
                f"relation is between them, got {len(x)}"
            )
        if self.pooling == "flatten" or x.dim() == 2:
            return x.flatten(1)
        if x.dim() < 4:
            raise ValueError(
                f"{type(self).__name__}: features of {layer!r} must be (N, D) or maps (N, C, H, W) "
                f"for pooling='mean', got shape {tuple(x.shape)}"
            )
        return x.flatten(2).mean(2)
