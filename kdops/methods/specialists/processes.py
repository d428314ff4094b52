"""Specialists trained at the same time: each needs nothing of the others."""

import copy
import multiprocessing
import traceback
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ... import _checks


class _Packed(NamedTuple):
    """A tensor as bytes, not as shared memory, of which each would hold a file open."""

    shape: torch.Size
    dtype: torch.dtype
    content: np.ndarray


def _bytes(x: Tensor) -> np.ndarray:
    return x.reshape(-1).view(torch.uint8).numpy()


def _packed(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    x = x.detach().cpu().contiguous()
    return _Packed(x.shape, x.dtype, _bytes(x))


def _unpacked(x: Any) -> Any:
    if not isinstance(x, _Packed):
        return x
    tensor = torch.empty(x.shape, dtype=x.dtype)
    _bytes(tensor)[:] = x.content
    return tensor


def _attempt(
    train: Callable[[Any], Any], job: Any, seed: int, threads: int
) -> tuple[dict[str, Any], str]:
    """A job's packed result, or the text of its error: not every exception can be sent."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            # a tensor of the job may be memory that the processes share
            result = train(copy.deepcopy(job))
            if not isinstance(result, Mapping):
                raise TypeError(f"train must return a state dict, got {type(result).__name__}")
            return {name: _packed(x) for name, x in result.items()}, ""
    except Exception:
        return {}, traceback.format_exc()
    finally:
        torch.set_num_threads(before)


def _result(name: Hashable, future: "Future[Any]") -> dict[str, Any]:
    try:
        result, error = future.result()
    except Exception as lost:  # the process died, or something could not be sent
        raise RuntimeError(f"train_in_processes: job {name!r} failed: {lost!r}") from lost
    if error:
        raise RuntimeError(f"train_in_processes: job {name!r} failed:\n{error}")
    return {key: _unpacked(x) for key, x in result.items()}


def train_in_processes(
    train: Callable[[Any], Mapping[str, Tensor]],
    jobs: Mapping[str, Any],
    workers: int,
    *,
    threads: int | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Tensor]]:
    """{name: train(job)} of all jobs, `workers` of them at a time in processes of their own.

    Processes are spawned, so a script must call this below `if __name__ == "__main__":`, and train
    must be a function of a module. Each job begins with its own copy of what it is given and with
    torch's random numbers seeded by seed + its place, so that the results are bit by bit the same
    with any number of workers, given the same `threads`. Let `train` load its data: a tensor in a
    job is moved to shared memory.

    Args:
        train: takes a job, returns a state dict.
        jobs: name to job: the specialist's classes, say.
        workers: >= 1; 1 trains one after another in this process.
        threads: of torch in each; by default torch's present number, shared among the workers.
        seed: >= 0.
    Returns:
        State dicts in the order of jobs, their tensors on the CPU.
    Raises:
        RuntimeError: where a job fails, with its name and its traceback; no further one begins.
        TypeError, ValueError: for wrong types or ranges.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section 5:
        specialists are trained independently.
    """
    _checks.integer("train_in_processes", "workers", workers, 1)
    _checks.integer("train_in_processes", "seed", seed)
    if not isinstance(jobs, Mapping):
        raise TypeError(f"train_in_processes: jobs must be a mapping, got {type(jobs).__name__}")
    workers = min(workers, max(len(jobs), 1))
    if threads is None:
        threads = max(1, torch.get_num_threads() // workers)
    _checks.integer("train_in_processes", "threads", threads, 1)
    arguments = [(train, job, seed + i, threads) for i, job in enumerate(jobs.values())]
    if workers == 1:
        return {name: _alone(name, each) for name, each in zip(jobs, arguments, strict=True)}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        futures = [pool.submit(_attempt, *each) for each in arguments]
        try:
            return {name: _result(name, each) for name, each in zip(jobs, futures, strict=True)}
        except RuntimeError:
            for each in futures:  # shutdown(cancel_futures=True) may lose one that cannot be sent
                each.cancel()
            raise


def _alone(name: Hashable, arguments: tuple[Any, ...]) -> dict[str, Any]:
    future: Future[Any] = Future()
    future.set_result(_attempt(*arguments))
    return _result(name, future)
