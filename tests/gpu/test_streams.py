"""Order and waiting: streams, CUDA graphs, and no wait of the host for the device."""

import pytest
import torch

from .. import stacked_peers
from ..cases import CASES, call
from ..metrics import value_and_gradient
from .batches import batch, equal, weights_of

CASES = [*CASES, *stacked_peers.CASES]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
CYCLES = 40_000_000  # of the producer's sleep: some 20 ms


def result(case, given):
    student, teacher, kwargs = given
    return value_and_gradient(case.function, student, teacher, weights_of(case), **kwargs)


@each
def test_inputs_that_come_late(gpu, case):
    """On the stream of the call they are written after a sleep; another stream would not wait."""
    student, teacher, kwargs = batch(case, gpu)
    expected = result(case, (student, teacher, kwargs))
    late = [torch.zeros_like(x) for x in (student, teacher) if x is not None]
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(CYCLES)
        for x, source in zip(late, (student, teacher), strict=False):
            x.copy_(source)
        found = result(case, (late[0], (late[1:] or [None])[0], kwargs))
    side.synchronize()
    assert equal(found, expected)


def test_two_streams_at_once(gpu):
    """No memory is shared between calls."""
    given = [batch(case, gpu) for case in CASES]
    expected = [result(*pair) for pair in zip(CASES, given, strict=True)]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(2)]
    found = []
    for _ in range(5):
        for i, case in enumerate(CASES):
            for stream in streams:
                with torch.cuda.stream(stream):
                    found.append((i, result(case, given[i])))
    torch.cuda.synchronize()
    assert all(equal(outputs, expected[i]) for i, outputs in found)


def stepper(case, given):
    """A step on one set of tensors, which a graph may hold: value and gradient."""
    student, teacher, kwargs = given
    student.requires_grad_()
    weights = weights_of(case)(call(case.function, student, teacher, **kwargs).detach())

    def step():
        value = call(case.function, student, teacher, **kwargs)
        return value.detach(), torch.autograd.grad(value, student, weights)[0]

    return step


@each
def test_graph(gpu, case):
    """Captured once, replayed on other numbers: bitwise what an ordinary call gives."""
    student, teacher, kwargs = batch(case, gpu)
    step = stepper(case, (student, teacher, kwargs))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()
    for seed in (1, 2):
        other, other_teacher, _ = batch(case, gpu, seed=seed)
        with torch.no_grad():
            student.copy_(other)
            if teacher is not None:
                teacher.copy_(other_teacher)
        for _ in range(2):
            graph.replay()
        torch.cuda.synchronize()
        assert equal(outputs, result(case, (other, other_teacher, kwargs)))


@each
def test_the_host_never_waits(gpu, case):
    step = stepper(case, batch(case, gpu))
    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def launched(step) -> list[str]:
    """Names of the kernels, copies and fills of a step."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    on_gpu = torch.autograd.DeviceType.CUDA
    return [event.name for event in profile.events() if event.device_type == on_gpu]


@pytest.mark.parametrize("case", [c for c in CASES if c.kind != "map"], ids=lambda c: c.name)
def test_launches(gpu, case):
    """Forward and backward together."""
    most = 5 if case.kind == "pairs" else 3 + case.labels  # labels are counted first
    most += 2 * (case.name == "mutual_kl")  # the sum of its losses, and a copy of its gradient
    step = stepper(case, batch(case, gpu))
    step()
    names = launched(step)
    if not names:
        pytest.skip("the profiler sees no kernels here")
    assert len(names) <= most, names
