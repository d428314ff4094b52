"""What ranks must know of each other before features move: their rows, and that they agree."""

import zlib
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Gather = Any  # None, 'all' or a torch.distributed.ProcessGroup, which not every torch has


def process_group(gather: Gather) -> Any:
    """The group that `gather` names; None is the default one."""
    return None if isinstance(gather, str) else gather


def spread(function: str, gather: Gather) -> bool:
    """Whether a batch is spread over more ranks than one; an error for what names no ranks."""
    available = dist.is_available()
    named = isinstance(gather, str) and gather == "all"
    if not named and not (available and isinstance(gather, dist.ProcessGroup)):
        raise ValueError(
            f"{function}: gather must be None, 'all' or a process group of this rank, "
            f"got {gather!r}"
        )
    if not (available and dist.is_initialized()):
        raise RuntimeError(
            f"{function}: gather={gather!r} must have a process group, got none: "
            "call torch.distributed.init_process_group first"
        )
    return dist.get_world_size(process_group(gather)) > 1


def _description(x: Tensor) -> str:
    gradient = "with" if x.requires_grad and torch.is_grad_enabled() else "without"
    return f"(n, {x.shape[1]}) {x.dtype} {gradient} gradient"


def row_counts(
    function: str, tensors: tuple[Tensor, ...], scalars: tuple[Any, ...], group: Any
) -> list[int]:
    """The number of rows of every rank; ValueError on every rank where their calls differ.

    A difference would be a wait without end, or a loss of no batch.
    """
    call = f"{function} of {', '.join(map(_description, tensors))}; options {scalars}"
    mine = torch.tensor([len(tensors[0]), zlib.crc32(call.encode())], device=tensors[0].device)
    every = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, mine, group=group)
    counts, checks = zip(*torch.stack(every).tolist(), strict=True)
    if len(set(checks)) > 1:
        calls: list[Any] = [None] * len(checks)
        dist.all_gather_object(calls, call, group=group)
        listed = "; ".join(f"rank {rank}: {call}" for rank, call in enumerate(calls))
        raise ValueError(
            f"{function}: gather must have calls that differ in their rows alone, got {listed}"
        )
    return list(counts)
