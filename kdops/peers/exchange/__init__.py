"""Weights that peers hand each other, through memory, a folder or torch.distributed."""

from .bank import PeerBank
from .checkpoint import Checkpoint, decode, encode
from .exchange import Exchange, MemoryExchange
from .folder import FolderExchange
from .process_group import ProcessGroupExchange

__all__ = [
    "Checkpoint",
    "Exchange",
    "FolderExchange",
    "MemoryExchange",
    "PeerBank",
    "ProcessGroupExchange",
    "decode",
    "encode",
]
