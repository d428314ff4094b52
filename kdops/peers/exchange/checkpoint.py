"""A peer's weights as bytes: self-describing, checked, and no program that runs when it is read."""

import json
import math
import struct
import sys
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

MAGIC = b"kdopsnet"
PREFIX = struct.Struct("<8sIQ")  # magic, checksum of all that follows it, bytes of the header
CHECKED = 12  # where the checksum's bytes begin
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}


class Checkpoint(NamedTuple):
    """A peer's weights after `step` steps; `origin`: a checksum of those that it began with."""

    step: int
    origin: int
    state: Mapping[str, Tensor]


def origin_of(state: Mapping[str, Tensor]) -> int:
    """A checksum of the weights."""
    total = 0
    for name, x in state.items():
        total = zlib.crc32(_bytes(x).numpy().data, zlib.crc32(name.encode(), total))
    return total


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of an entry with NaN or an infinity."""
    for name, x in state.items():
        if not x.is_floating_point() or x.sum().isfinite():  # a sum is fast; it may overflow
            continue
        if not x.isfinite().all():
            return name
    return None


def _bytes(x: Tensor) -> Tensor:
    return x.detach().cpu().contiguous().view(-1).view(torch.uint8)


def encode(checkpoint: Checkpoint) -> Tensor:
    """As a (bytes,) uint8 tensor on the CPU: prefix, JSON header, then the entries one by one.

    Raises:
        TypeError: for an entry that is not a dense tensor of a known type.
    """
    entries = [
        (name, str(x.dtype).removeprefix("torch."), tuple(x.shape))
        for name, x in checkpoint.state.items()
        if isinstance(x, Tensor) and x.layout is torch.strided and x.dtype in DTYPES.values()
    ]
    if len(entries) < len(checkpoint.state):
        odd = set(checkpoint.state) - {name for name, *_ in entries}
        raise TypeError(f"a peer's weights must be dense tensors, not so: {', '.join(sorted(odd))}")
    meta = {"step": checkpoint.step, "origin": checkpoint.origin, "order": sys.byteorder}
    header = json.dumps({**meta, "entries": entries}).encode()
    parts = [torch.frombuffer(bytearray(header), dtype=torch.uint8)]
    parts += [_bytes(x) for x in checkpoint.state.values() if x.numel()]
    data = torch.cat([torch.zeros(PREFIX.size, dtype=torch.uint8), *parts])
    view = data.numpy().data
    PREFIX.pack_into(view, 0, MAGIC, 0, len(header))
    PREFIX.pack_into(view, 0, MAGIC, zlib.crc32(view[CHECKED:]), len(header))
    return data


def decode(data: Tensor) -> Checkpoint:
    """What `encode` made of it.

    Raises:
        ValueError: for bytes that are cut, changed, or of something else.
    """
    view = data.numpy().data
    if len(view) < PREFIX.size or (prefix := PREFIX.unpack_from(view))[0] != MAGIC:
        raise ValueError("its file is cut, or of something else")
    _, checksum, length = prefix
    if zlib.crc32(view[CHECKED:]) != checksum:
        raise ValueError("its checksum is wrong, it was cut or changed")
    start = PREFIX.size + length
    try:
        header, state = json.loads(view[PREFIX.size : start].tobytes()), {}
        for name, dtype, shape in header["entries"]:
            stop = start + math.prod(shape) * DTYPES[dtype].itemsize
            state[name] = data[start:stop].clone().view(DTYPES[dtype]).view(shape)
            start = stop
        checkpoint = Checkpoint(int(header["step"]), int(header["origin"]), state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"its header is wrong: {error}") from error
    if start != len(view) or header.get("order") != sys.byteorder:
        raise ValueError("its size or its order of bytes is wrong")
    return checkpoint
