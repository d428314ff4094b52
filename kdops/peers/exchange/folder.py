"""Peers that exchange through files in a folder that all of them see."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .checkpoint import PREFIX, Checkpoint, decode, encode
from .exchange import Exchange


class FolderExchange(Exchange):
    """One file a peer in a shared folder, replaced at once; any process may stop and come back.

    A file is written under another name, flushed to the disk and renamed: a reader has the old one
    or the new one, whole, and a checksum tells it from what a broken disk or network left. Peers
    need not run at the same time, nor at the same pace. A folder is one run's: weights of an
    earlier run in it are taken for the peers'.

    Args:
        folder: made by the first that publishes.
        peer: this process's number in 0..peers-1. Two processes must not have the same one.
        peers: K.
    Raises:
        ValueError, TypeError: for a number out of range.

    >>> exchange = FolderExchange("/shared/run1/exchange", peer=0, peers=2)
    """

    def __init__(self, folder: str | os.PathLike[str], peer: int, peers: int):
        super().__init__(peer, peers)
        self.folder = Path(folder)
        self._seen: dict[int, tuple[Any, ...]] = {}

    def path(self, peer: int) -> Path:
        return self.folder / f"peer{peer}.net"

    def publish(self, checkpoint: Checkpoint, peer: int | None = None) -> None:
        path = self.path(self.peer)
        fresh = path.with_suffix(".new")
        self.folder.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(encode(checkpoint).numpy().data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)

    def newest(self, peer: int) -> Checkpoint | None:
        try:
            with self.path(peer).open("rb") as file:
                stat = os.fstat(file.fileno())
                stamp = file.read(PREFIX.size), stat.st_size, stat.st_mtime_ns
                if stamp == self._seen.get(peer):
                    return None
                file.seek(0)
                data = np.fromfile(file, dtype=np.uint8)
        except FileNotFoundError:
            return None
        self._seen[peer] = stamp
        return decode(torch.from_numpy(data))
