"""Time, peak memory and error of one training step: loss, backward, a fresh gradient.

A clock is a function that gives seconds: one thread's CPU time, which other programs on the machine
disturb least, unless another is asked for.
"""

import gc
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import torch
from torch import Tensor

BLOCK = 5e-3  # seconds of repeats that one figure is taken from
MOST_ROUNDS = 25
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2, torch.bfloat16: 0.2, torch.float16: 0.2}


def step(function: Callable, student: Tensor, teacher: Tensor, options: dict) -> Callable:
    def run() -> None:
        student.grad = None
        function(student, teacher, **options).backward()

    return run


def clock_of(device: str, threads: int) -> Callable[[], float]:
    """CPU time of one thread; of several threads, and of a GPU that is waited for, wall time."""
    if device == "cpu":
        return process_time if threads == 1 else perf_counter

    def wall() -> float:
        torch.cuda.synchronize()
        return perf_counter()

    return wall


def block(run: Callable, repeats: int) -> None:
    for _ in range(repeats):
        run()


def calibrated(run: Callable, clock: Callable = process_time) -> tuple[int, float]:
    """How many runs fill a block, and its seconds; `run` has been compiled and warmed up."""
    count = 1
    while True:
        start = clock()
        block(run, count)
        spent = clock() - start
        if spent >= BLOCK:
            return count, spent
        growth = min(10, 1.1 * BLOCK / max(spent, 1e-5))
        count = max(count + 1, math.ceil(count * growth))


def seconds(run: Callable, count: int, clock: Callable = process_time) -> float:
    """Seconds of one run, in a block of `count`, behind one that is not timed if it is short:
    a block that follows another's pays for cold caches."""
    if count > 1:
        run()
    start = clock()
    block(run, count)
    return (clock() - start) / count


def rounds_within(budget: float, spent: float) -> int:
    """How many rounds of `spent` seconds fit: at least three."""
    return max(3, min(MOST_ROUNDS, int(budget / spent)))


def interleaved(runs: dict[str, Callable], budget: float, clock: Callable) -> dict:
    """Seconds of a run of each, a figure a round; every round takes all of them, one by one.

    A round that is longer than the budget is not repeated.
    """
    blocks = {name: calibrated(run, clock) for name, run in runs.items()}
    spent = sum(spent for _, spent in blocks.values())
    rounds = 1 if spent > budget else rounds_within(budget, spent)
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run, blocks[name][0], clock))
    return times


def quantile(values: list[float], share: float) -> float:
    return torch.tensor(values, dtype=torch.float64).quantile(share).item()


def ratio(values: list[float], ours: list[float]) -> float:
    """Median over the rounds: both figures of one ratio saw the same machine."""
    return quantile([a / b for a, b in zip(values, ours, strict=True)], 0.5)


def peak_memory(run: Callable, student: Tensor) -> int:
    """Bytes that torch's allocator held at once above the inputs during one run."""
    student.grad = None  # or its release is counted, at times, against what the run allocates
    gc.collect()
    if student.is_cuda:
        return _peak_on_gpu(run)
    cpu = [torch.profiler.ProfilerActivity.CPU]
    # acc_events: there is one cycle, and torch 2.11 warns of what becomes of others.
    with torch.profiler.profile(activities=cpu, profile_memory=True, acc_events=True) as profile:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    events = [event for event in events if event["name"] == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    least = 0 if student.grad is None else student.nbytes
    assert peak >= least, f"the profiler saw {peak} bytes, less than the gradient"
    return peak


def _peak_on_gpu(run: Callable) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def result(function: Callable, student: Tensor, teacher: Tensor, options: dict):
    student.grad = None
    value = function(student, teacher, **options)
    value.backward()
    gradient, student.grad = student.grad, None
    return value.detach(), gradient


def errors(value: Tensor, gradient: Tensor, exact: tuple[Tensor, Tensor]) -> dict:
    """Relative error of the loss, and of the gradient in the Euclidean norm."""
    loss, slope = exact
    return {
        "loss_error": float((value.double() - loss).abs() / loss.abs()),
        "gradient_error": float((gradient.double() - slope).norm() / slope.norm()),
    }
