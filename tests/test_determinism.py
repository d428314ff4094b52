"""Bitwise the same on any number of threads, in any run, from any thread or process."""

import hashlib
import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import kdops

from .cases import CASES, generator
from .metrics import upstream, value_and_gradient

pytestmark = pytest.mark.usefixtures("native")
SHAPES = {"rows": (301, 517), "pairs": (203, 67), "map": (131, 33)}


def result(case, shape=None):
    student, teacher, kwargs = case.make_inputs(
        shape or SHAPES[case.kind], torch.float32, generator()
    )
    if case.stem == "triplet_angle":
        student = student[:40]
    weights = upstream if case.kind == "map" else torch.ones_like
    return value_and_gradient(case.function, student, teacher, weights, **kwargs)


def equal(a, b) -> bool:
    return all(map(torch.equal, a, b))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_native_threads_and_runs(case):
    with kdops.backend("native"):
        expected = result(case)
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            for _ in range(3):
                assert equal(result(case), expected), f"{threads} threads"


@pytest.mark.parametrize("name", ["rkd_distance_loss", "irg_edge_loss", "cckd_loss"])
def test_native_threads_of_the_streamed_form(name):
    case = next(case for case in CASES if case.name == name)
    with kdops.backend("native"):
        expected = result(case, (1100, 16))
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert equal(result(case, (1100, 16)), expected)


def test_native_deterministic_mode():
    torch.use_deterministic_algorithms(True)
    try:
        for case in CASES:
            result(case)
    finally:
        torch.use_deterministic_algorithms(False)


def small(case):
    return result(case, (24, 10))


def test_native_threads_of_the_caller():
    """Eight threads at once, mixed calls: no shared scratch."""
    expected = [small(case) for case in CASES]

    def work(seed):
        order = torch.randperm(len(CASES), generator=generator(seed)).tolist() * 12
        return all(equal(small(CASES[i]), expected[i]) for i in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def digest() -> str:
    torch.set_num_threads(1)
    parts = [x for case in CASES for x in small(case)]
    return hashlib.sha256(b"".join(x.numpy().tobytes() for x in parts)).hexdigest()


def report(queue):
    queue.put(digest())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_native_processes(method):
    """A forked child on one thread works after the parent used two, as does a spawned one."""
    torch.set_num_threads(2)
    for case in CASES:
        result(case)
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=report, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=60) == digest()
        child.join(20)
        assert child.exitcode == 0
    finally:
        if child.is_alive():
            child.kill()


class Losses(torch.utils.data.Dataset):
    """Each item is computed in the worker."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        torch.set_num_threads(1)
        x = torch.randn((2, 16, 10), generator=generator(i))
        return kdops.kd_loss(*x) + kdops.rkd_distance_loss(*x)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.slow
def test_native_data_loader_workers(method):
    loader = torch.utils.data.DataLoader(
        Losses(), num_workers=2, multiprocessing_context=method, timeout=60
    )
    assert torch.equal(torch.cat(list(loader)), torch.stack([Losses()[i] for i in range(4)]))
