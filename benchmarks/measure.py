"""Time, peak memory and error of one training step: loss, backward, a fresh gradient."""

import gc
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time

import torch
from torch import Tensor

BLOCK = 5e-3  # seconds of repeats that one figure is taken from
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-2, torch.bfloat16: 0.2, torch.float16: 0.2}


def step(function: Callable, student: Tensor, teacher: Tensor, options: dict) -> Callable:
    def run() -> None:
        student.grad = None
        function(student, teacher, **options).backward()

    return run


def block(run: Callable, repeats: int) -> None:
    for _ in range(repeats):
        run()


def calibrated(run: Callable) -> tuple[int, float]:
    """How many runs fill a block, and its seconds; `run` has been compiled and warmed up."""
    count = 1
    while True:
        start = process_time()
        block(run, count)
        spent = process_time() - start
        if spent >= BLOCK:
            return count, spent
        growth = min(10, 1.1 * BLOCK / max(spent, 1e-5))
        count = max(count + 1, math.ceil(count * growth))


def seconds(run: Callable, count: int) -> float:
    """CPU seconds of one run, in a block of `count`, behind one that is not timed if it is short:
    a block that follows another's pays for cold caches."""
    if count > 1:
        run()
    start = process_time()
    block(run, count)
    return (process_time() - start) / count


def quantile(values: list[float], share: float) -> float:
    return torch.tensor(values, dtype=torch.float64).quantile(share).item()


def ratio(values: list[float], ours: list[float]) -> float:
    """Median over the rounds: both figures of one ratio saw the same machine."""
    return quantile([a / b for a, b in zip(values, ours, strict=True)], 0.5)


def peak_memory(run: Callable, student: Tensor) -> int:
    """Bytes that torch's allocator held at once above the inputs during one run."""
    student.grad = None  # or its release is counted, at times, against what the run allocates
    gc.collect()
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
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
    assert peak >= student.nbytes, f"the profiler saw {peak} bytes, less than the gradient"
    return peak


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
