"""What a step costs on a device: its seconds, memory, launches. One class a kind of device.

`device` is the device's time. On a GPU the steps stand between two events behind reads of a buffer
larger than the L2 cache: meanwhile the host queues them, so that its own time is hidden, and the
first of them finds the cache without its inputs, and without writes that are still to be done.
`wall` is what the host sees: a block of steps and the wait for the last.
"""

import gc
import math
import statistics
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor

from kdops.bench import measure

MIB = 2**20
MAX_SWEEPS = 1000  # of the cache before a block: a tenth of a second
WARM_UP = 3


def _elapsed(run: Callable, count: int) -> float:
    start = perf_counter()
    measure.block(run, count)
    return perf_counter() - start


class Cpu:
    """The same figures without a GPU, which proves the program and not the library."""

    name = "cpu"
    copied = 16 * MIB  # bytes that the bandwidth is taken from

    def host(self, run: Callable) -> float:
        """Warms up; seconds that the host takes to queue a step."""
        return min(_elapsed(run, 1) for _ in range(WARM_UP))

    def device(self, run: Callable, count: int, host: float) -> float:
        return _elapsed(run, count) / count

    def wall(self, run: Callable, count: int) -> float:
        return _elapsed(run, count) / count

    def memory(self, run: Callable, student: Tensor) -> int:
        return measure.peak_memory(run, student)

    def launches(self, run: Callable) -> int | None:
        return None

    def waits(self, run: Callable) -> bool | None:
        return None

    def replay(self, run: Callable, student: Tensor) -> float | None:
        return None

    def free(self) -> None:
        gc.collect()


class Cuda:
    name = "cuda"
    copied = 1024 * MIB

    def __init__(self):
        cache = torch.cuda.get_device_properties(0).L2_cache_size
        self.sweep = torch.zeros(max(cache, 64 * MIB), device="cuda")  # four times the bytes
        self.host(self.sweep.sum)
        self.sweep_seconds = self._events(self.sweep.sum, 20) / 20

    def _events(self, run: Callable, count: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        measure.block(run, count)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def host(self, run: Callable) -> float:
        """Warms up; seconds that the host takes to queue a step."""
        spent = []
        for _ in range(WARM_UP):
            torch.cuda.synchronize()
            spent.append(_elapsed(run, 1))
        torch.cuda.synchronize()
        return min(spent)

    def device(self, run: Callable, count: int, host: float) -> float:
        sweeps = 1 + math.ceil(1.5 * count * host / self.sweep_seconds)
        measure.block(self.sweep.sum, min(sweeps, MAX_SWEEPS))
        return self._events(run, count) / count

    def wall(self, run: Callable, count: int) -> float:
        torch.cuda.synchronize()
        start = perf_counter()
        measure.block(run, count)
        torch.cuda.synchronize()
        return (perf_counter() - start) / count

    def memory(self, run: Callable, student: Tensor) -> int:
        return measure.peak_memory(run, student)

    def launches(self, run: Callable) -> int | None:
        """Kernels, copies and fills of a step, the fill of backward's first gradient included."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            run()
            torch.cuda.synchronize()
        on_gpu = torch.autograd.DeviceType.CUDA
        return sum(event.device_type == on_gpu for event in profile.events()) or None

    def waits(self, run: Callable) -> bool:
        """Whether torch waits for the device during a step; a wait of ours would stop `replay`."""
        torch.cuda.set_sync_debug_mode("error")
        try:
            run()
        except RuntimeError as error:
            if "synchroniz" not in str(error):
                raise
            return True
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return False

    def replay(self, run: Callable, student: Tensor) -> float:
        """Seconds of a step replayed from a CUDA graph: the kernels without Python."""
        run()
        expected = student.grad.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            measure.block(run, WARM_UP)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        student.grad.zero_()
        host = self.host(graph.replay)
        if not torch.equal(student.grad, expected):
            raise ArithmeticError("the replayed gradient differs")
        return statistics.median(self.device(graph.replay, 20, host) for _ in range(20))

    def free(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()
