"""What the loss itself costs, forward and backward: kdops' native kernels and its reference."""

import statistics
import time
from collections.abc import Container
from dataclasses import dataclass

import torch

import kdops

from .models import Outputs
from .objectives import Objective
from .training import BATCH

BLOCK_SECONDS = 0.02
ROUNDS = 15


@dataclass(frozen=True)
class LossTime:
    method: str
    reference_us: float
    native_us: float | None  # None: no native kernel


def training_inputs(student_width: int = 32, teacher_width: int = 128, classes: int = 10):
    """(student, teacher, labels) in the sizes of the few-label experiment."""
    generator = torch.Generator().manual_seed(0)

    def outputs(width: int, requires_grad: bool) -> Outputs:
        sizes = (BATCH, classes), (BATCH, width)
        return Outputs(
            *(torch.randn(s, generator=generator).requires_grad_(requires_grad) for s in sizes)
        )

    labels = torch.randint(classes, (BATCH,), generator=generator)
    return outputs(student_width, True), outputs(teacher_width, False), labels


def step(objective: Objective, inputs) -> None:
    student, teacher, labels = inputs
    loss = objective(student, teacher, labels)
    torch.autograd.grad(loss, list(student), allow_unused=True)


def without_native(objectives: dict[str, Objective]) -> dict[str, str]:
    """The methods that no native kernel serves here, each with the reason."""
    inputs, reasons = training_inputs(), {}
    for name, objective in objectives.items():
        try:
            with kdops.backend("native"):
                step(objective, inputs)
        except RuntimeError as error:
            reasons[name] = str(error).partition(": ")[2]  # without the loss's name
    return reasons


def _block(objective: Objective, inputs, backend: str, calls: int) -> float:
    """CPU seconds a call."""
    with kdops.backend(backend):
        start = time.process_time()
        for _ in range(calls):
            step(objective, inputs)
        return (time.process_time() - start) / calls


def measure(objectives: dict[str, Objective], unserved: Container[str]) -> list[LossTime]:
    """Median over blocks of calls, the backends in turn; CPU time of one thread."""
    inputs, threads = training_inputs(), torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for name, objective in objectives.items():
        backends = ("reference",) if name in unserved else ("reference", "native")
        calls = {}
        for backend in backends:
            _block(objective, inputs, backend, 5)  # warm up
            calls[backend] = max(1, int(BLOCK_SECONDS / _block(objective, inputs, backend, 10)))
        blocks = [
            {b: _block(objective, inputs, b, calls[b]) for b in backends} for _ in range(ROUNDS)
        ]
        median = {b: 1e6 * statistics.median(block[b] for block in blocks) for b in backends}
        times.append(LossTime(name, median["reference"], median.get("native")))
    torch.set_num_threads(threads)
    return times
