"""Peers that exchange through torch.distributed, each rank one peer."""

import atexit
import datetime
import time
from contextlib import suppress
from queue import Empty, Queue
from threading import Thread
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .checkpoint import Checkpoint, decode, encode
from .exchange import Exchange

FOREVER = datetime.timedelta(days=365)  # the group's own timeout would end the waits of all ranks
JOIN = 5.0  # seconds; a thread wakes when the group is gone


class ProcessGroupExchange(Exchange):
    """Messages from every rank of a Gloo group to every other; rank i is peer i.

    Two threads a peer send and receive: training only lays weights down and picks them up. A peer
    that lags gets the newest when it takes one, and none of those between. One that is gone costs
    its own connection alone; its last weights stay. It cannot come back: a process group knows
    no new members. Where peers restart, take a `FolderExchange`.

    The weights pass through the host's memory, at most three copies of them a peer, and a Gloo
    group of the exchange's own beside the given one, whatever that one's backend: NCCL would end a
    process whose peer is gone.

    Args:
        group: all its ranks make the exchange; None: the default group.
    Raises:
        RuntimeError: without a process group. ValueError: for a group that this rank is not in.

    >>> with ProcessGroupExchange() as exchange:
    ...     bank = PeerBank(make_net, exchange)
    """

    def __init__(self, group: Any = None):
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "ProcessGroupExchange: group must be a process group, got none: "
                "call torch.distributed.init_process_group first"
            )
        rank = dist.get_rank(group)
        if rank < 0:
            raise ValueError("ProcessGroupExchange: group must have this rank")
        super().__init__(rank, dist.get_world_size(group))
        ranks = dist.get_process_group_ranks(group)
        self._group = dist.new_group(ranks, backend="gloo", use_local_synchronization=True)
        self._out: dict[int, Queue[Any]] = {j: Queue() for j in self.readable}
        self._in: dict[int, Queue[Any]] = {j: Queue() for j in self.readable}
        self._gone: set[int] = set()
        self._threads = [
            Thread(target=self._until_lost, args=(work, j), daemon=True)
            for j in self.readable
            for work in (self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close, 0.0)

    def publish(self, checkpoint: Checkpoint, peer: int | None = None) -> None:
        data = encode(checkpoint)
        for j in self.readable:
            _replace(self._out[j], data)

    def newest(self, peer: int) -> Checkpoint | None:
        with suppress(Empty):
            found = self._in[peer].get_nowait()
            if isinstance(found, str):
                raise OSError(f"its connection is lost: {found}")
            return decode(found)
        return None

    def flush(self, seconds: float = 10.0) -> bool:
        """Wait until what was published has been sent to all that are there; whether it was."""
        end = time.monotonic() + seconds
        while (waiting := any(map(self._pending, self.readable))) and time.monotonic() < end:
            time.sleep(0.005)
        return not waiting

    def close(self, seconds: float = 10.0) -> None:
        """Flush, leave the others, and end the threads; at the end of a process at the latest."""
        atexit.unregister(self.close)
        self.flush(seconds)
        self._gone.update(self.readable)
        for queue in self._out.values():
            queue.put(None)
        for peer in self.readable:  # a wait that runs out of time ends all waits of its group
            with suppress(RuntimeError):
                self._group.recv([torch.empty(1)], peer, 1).wait(datetime.timedelta(milliseconds=1))
        for thread in self._threads:
            thread.join(JOIN)

    def __enter__(self) -> "ProcessGroupExchange":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _pending(self, peer: int) -> bool:
        return peer not in self._gone and self._out[peer].unfinished_tasks > 0

    def _until_lost(self, work: Any, peer: int) -> None:
        try:
            while peer not in self._gone:
                work(peer)
        except RuntimeError as error:
            if peer not in self._gone:
                self._gone.add(peer)
                self._in[peer].put(str(error).partition(". ")[0])

    def _send(self, peer: int) -> None:
        data = self._out[peer].get()
        if data is not None:
            for message in (torch.tensor([len(data)]), data):
                self._group.send([message], peer, 0).wait(FOREVER)
            self._out[peer].task_done()

    def _receive(self, peer: int) -> None:
        size = torch.empty(1, dtype=torch.int64)
        self._group.recv([size], peer, 0).wait(FOREVER)
        data = torch.empty(int(size), dtype=torch.uint8)
        self._group.recv([data], peer, 0).wait(FOREVER)
        _replace(self._in[peer], data)


def _replace(queue: "Queue[Any]", data: Tensor) -> None:
    """Lay down the newest in place of what nobody took."""
    with suppress(Empty):
        queue.get_nowait()
        queue.task_done()
    queue.put(data)
