"""How peers hand each other their weights: what every exchange does, and the one in memory."""

from torch import Tensor

from ... import _checks
from .checkpoint import Checkpoint


class Exchange:
    """The newest weights of K peers; nobody ever waits for anybody.

    Args:
        peer: the number of the peer that publishes here.
        peers: K.
    """

    def __init__(self, peer: int, peers: int):
        name = type(self).__name__
        self.peers = _checks.integer(name, "peers", peers, low=1)
        self.peer = _checks.integer(name, "peer", peer, high=peers - 1)

    @property
    def readable(self) -> tuple[int, ...]:
        """The peers whose weights come from here."""
        return tuple(j for j in range(self.peers) if j != self.peer)

    def publish(self, checkpoint: Checkpoint, peer: int | None = None) -> None:
        """Hand out weights, whole; `peer` is needed where several publish at one place."""
        raise NotImplementedError

    def newest(self, peer: int) -> Checkpoint | None:
        """What a peer published last, None where there is nothing since the last call.

        Raises:
            ValueError: for what is not a peer's weights; the next call says None. OSError.
        """
        raise NotImplementedError


class MemoryExchange(Exchange):
    """Of K peers in one process: the weights are copied."""

    def __init__(self, peers: int):
        super().__init__(0, peers)
        self._fresh: dict[int, Checkpoint] = {}

    @property
    def readable(self) -> tuple[int, ...]:
        return tuple(range(self.peers))

    def publish(self, checkpoint: Checkpoint, peer: int | None = None) -> None:
        copies = {name: _copy(x) for name, x in checkpoint.state.items()}
        self._fresh[self.peer if peer is None else peer] = checkpoint._replace(state=copies)

    def newest(self, peer: int) -> Checkpoint | None:
        return self._fresh.pop(peer, None)


def _copy(x: Tensor) -> Tensor:
    return x.detach().clone()
