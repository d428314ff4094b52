"""Nets that learn from stale copies of each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..taps import Outputs
from .exchange import PeerBank
from .group import NetGroup


class CodistilledGroup(NetGroup):
    """All K peers of a run, or those that this process trains, beside copies of the others.

    While `listening` in training mode, the feature 'stale' is, for each net here, the logits of all
    other peers that can be asked, on the net's own rows.

    Args:
        nets: those that are trained here.
        numbers: which peers they are.
        bank: the copies; it exchanges with the other peers.
        layers: as of `NetGroup`.
        own_rows: whether each net has rows of its own.
    """

    listening = False

    def __init__(
        self,
        nets: Sequence[nn.Module],
        numbers: Sequence[int],
        bank: PeerBank,
        layers: Mapping[str, str] | None = None,
        *,
        own_rows: bool = False,
    ):
        super().__init__(nets, layers)
        self.numbers, self.bank, self.own_rows = tuple(numbers), bank, own_rows

    def forward(self, images: Tensor) -> Outputs:
        outputs = super().forward(images)
        stale: Sequence[Sequence[Tensor]] = ((),) * self.count
        if self.training and self.listening:
            if self.own_rows:
                pairs = zip(images, self.numbers, strict=True)
                stale = tuple(self.bank.predict(rows, own=number) for rows, number in pairs)
            else:
                stale = self.bank.predict_for(images, self.numbers)
        return Outputs(outputs.logits, {**outputs.features, "stale": stale})

    def record(self) -> dict[str, Any]:
        """How old the copies were that answered: of each peer, over batches, in steps."""
        return {"ages": self.bank.record()}

    def publish(self, step: int) -> None:
        """Give the other peers the weights as they are after `step` steps."""
        for i, number in enumerate(self.numbers):
            self.bank.publish(self.peer(i).state_dict(), step, number)
