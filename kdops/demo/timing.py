"""What the loss itself costs, forward and backward: kdops' native kernels and its reference."""

import statistics
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass

import torch

import kdops

from ..methods import Method
from ..recipes.schema import make_method
from ..results.tables import Table
from ..studies.study import Arm, recipe_of
from ..taps import Outputs

BATCH = 64
BLOCK_SECONDS = 0.02
ROUNDS = 15


@dataclass(frozen=True)
class LossTime:
    method: str
    reference_us: float
    native_us: float | None  # None: no native kernel


def methods_of(arms: Mapping[str, Arm]) -> dict[str, Method]:
    """The method of each arm's last phase."""
    last = {name: recipe_of(arm).phases[-1] for name, arm in arms.items()}
    return {name: make_method(phase.method, phase.options) for name, phase in last.items()}


def training_inputs(student: int = 32, teacher: int = 128, channels=(4, 32), classes: int = 10):
    """(student, teacher, labels) in the sizes of the few-label experiment."""
    generator = torch.Generator().manual_seed(0)

    def outputs(width: int, channels: int, grad: bool) -> Outputs:
        sizes = {
            "embedding": (BATCH, width),
            "early": (BATCH, channels, 14, 14),
            "middle": (BATCH, 2 * channels, 7, 7),
        }
        made = {
            name: torch.randn(size, generator=generator).requires_grad_(grad)
            for name, size in sizes.items()
        }
        logits = torch.randn((BATCH, classes), generator=generator).requires_grad_(grad)
        return Outputs(logits, made)

    labels = torch.randint(classes, (BATCH,), generator=generator)
    return outputs(student, channels[0], True), outputs(teacher, channels[1], False), labels


def step(method: Method, inputs) -> None:
    student, teacher, labels = inputs
    loss = method(student, teacher, labels)
    torch.autograd.grad(loss, [student.logits, *student.features.values()], allow_unused=True)


def without_native(methods: dict[str, Method]) -> dict[str, str]:
    """The methods that no native kernel serves here, each with the reason."""
    inputs, reasons = training_inputs(), {}
    for name, method in methods.items():
        try:
            with kdops.backend("native"):
                step(method, inputs)
        except RuntimeError as error:
            reasons[name] = str(error).partition(": ")[2]  # without the loss's name
    return reasons


def _block(method: Method, inputs, backend: str, calls: int) -> float:
    """CPU seconds a call."""
    with kdops.backend(backend):
        start = time.process_time()
        for _ in range(calls):
            step(method, inputs)
        return (time.process_time() - start) / calls


def measure(methods: dict[str, Method], unserved: Container[str]) -> list[LossTime]:
    """Median over blocks of calls, the backends in turn; CPU time of one thread."""
    inputs, threads = training_inputs(), torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for name, method in methods.items():
        backends = ("reference",) if name in unserved else ("reference", "native")
        calls = {}
        for backend in backends:
            _block(method, inputs, backend, 5)  # warm up
            calls[backend] = max(1, int(BLOCK_SECONDS / _block(method, inputs, backend, 10)))
        blocks = [{b: _block(method, inputs, b, calls[b]) for b in backends} for _ in range(ROUNDS)]
        median = {b: 1e6 * statistics.median(block[b] for block in blocks) for b in backends}
        times.append(LossTime(name, median["reference"], median.get("native")))
    torch.set_num_threads(threads)
    return times


def timing_table(times: list[LossTime], steps: int, unserved: dict[str, str]) -> Table:
    rows = []
    for each in times:
        row = [each.method, f"{each.reference_us:.0f}", "-", "-"]
        row += [f"{each.reference_us * steps / 1e6:.2f}", "-"]
        if each.native_us is not None:
            ratio = each.reference_us / each.native_us
            row[2:4] = f"{each.native_us:.0f}", f"{ratio:.1f}"
            row[5] = f"{each.native_us * steps / 1e6:.2f}"
        rows.append(row)
    columns = ["method", "reference\nµs", "fused\nµs", "ratio", "reference\ns/run", "fused\ns/run"]
    notes = [
        "The whole method, forward and backward, in the sizes of the training above; CPU time "
        "on one thread, median of alternated blocks. Reference: kdops' own PyTorch version.",
    ]
    for reason in dict.fromkeys(unserved.values()):
        names = ", ".join(name for name in unserved if unserved[name] == reason)
        notes.append(f"No fused figures for {names}: {reason}")
    return Table("Time spent in the loss itself", columns, rows, notes)
