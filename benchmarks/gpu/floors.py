"""What the device gives, and what a step cannot be faster than.

    bytes         of rows of logits: both are read, the gradient is written, at a copy's bandwidth;
                  of K peers: all are read and all gradients written
    instructions  of relations, a lane each: 2 for a squared difference, 1 for a multiply-add of
                  the gradient's product, 20 for a triple
    launches      3 of rows, 4 of peers with labels, 5 of pairs and triples, forward and backward
                  together, at what a
                  launch of one number takes on the device when the queue is full

One kernel follows another, so a floor is the work's time and the launches' time together.
"""

import statistics
from dataclasses import dataclass

import torch

from kdops.bench import measure

from .. import limits
from . import card

INSTRUCTIONS = {"squared difference": 2, "product": 1, "triple": 20}
LAUNCHES = {"rows": 3, "peers": 4, "pairs": 5}
# Maps of more bytes are not kept: those that are normalised are made a second time.
KEPT = 256 * 2**20
NORMALISED = ("rkd_distance_loss", "irg_edge_loss")
LANES = {(7, 0): 64, (7, 5): 64, (8, 0): 64}  # of float32 in a multiprocessor; 128 in others


@dataclass(frozen=True)
class Rates:
    copy: float  # bytes a second, read and written
    launch: float  # seconds of a launch on the device
    host_launch: float  # and of the host
    instructions: float  # float32 lanes a second
    instructions_from: str


def _instructions(clock) -> tuple[float, str]:
    hertz = card.most_hertz() if clock.name == "cuda" else None
    if hertz is None:
        side = limits.SIDE if clock.name == "cpu" else 4096
        x, y, z = torch.randn(3, side, side, device=clock.name)

        def run() -> None:
            torch.mm(x, y, out=z)

        return side**3 / clock.device(run, 5, clock.host(run)), "a matrix product"
    found = torch.cuda.get_device_properties(0)
    lanes = LANES.get((found.major, found.minor), 128)
    source = f"properties: {found.multi_processor_count} SMs x {lanes} x {hertz / 1e9:.3g} GHz"
    return found.multi_processor_count * lanes * hertz, source


def rates(clock) -> Rates:
    source, target = torch.ones(2, clock.copied // 4, device=clock.name)
    host = clock.host(lambda: target.copy_(source))
    seconds = min(clock.device(lambda: target.copy_(source), 1, host) for _ in range(10))
    one = torch.ones(1, device=clock.name)
    host = clock.host(one.zero_)
    launch = statistics.median(clock.device(one.zero_, 100, host) for _ in range(20))
    return Rates(2 * source.nbytes / seconds, launch, host, *_instructions(clock))


def _work(workload, rates: Rates) -> tuple[str, float]:
    *peers, rows, columns = workload.shape
    if workload.case.kind in ("rows", "peers"):
        passes = 2 * peers[0] if peers else 3
        return "bytes", passes * rows * columns * workload.dtype.itemsize / rates.copy
    counts = limits.operations(workload.limit, workload.shape)
    if workload.case.stem in NORMALISED and 2 * rows * rows * 4 > KEPT:
        counts["squared difference"] *= 2
    total = sum(count * INSTRUCTIONS[term] for term, count in counts.items())
    return "arithmetic", total / rates.instructions


def floor(workload, rates: Rates) -> tuple[str, float]:
    """What binds, and the seconds."""
    what, work = _work(workload, rates)
    launches = LAUNCHES[workload.case.kind] * rates.launch
    return what if work > launches else "launches", work + launches


def repeats(binds: str, host: float) -> int:
    """Steps in a block: one where the work binds, so that it meets a cold cache each time."""
    return 1 if binds != "launches" else max(1, min(20, int(2 * measure.BLOCK / max(host, 1e-6))))
