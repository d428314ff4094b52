"""Which implementation answers: kdops.backend(...) for a block, KDOPS_BACKEND for a process."""

import os
import threading

CHOICES = ("auto", "native", "reference")


def _valid(choice: str, source: str) -> str:
    if choice not in CHOICES:
        raise ValueError(f"{source} must be one of {', '.join(CHOICES)}, got {choice!r}")
    return choice


class _Choice(threading.local):
    """A thread-local default and not a ContextVar: torch.compile(fullgraph=True) can read it."""

    name = _valid(os.environ.get("KDOPS_BACKEND", "auto"), "KDOPS_BACKEND")


choice = _Choice()


class backend:  # noqa: N801 (used like a function)
    """Choose the implementation inside a `with` block, for the calling thread.

    Args:
        name: 'auto' takes the native kernels where they exist and the reference elsewhere;
            'native' raises RuntimeError where a kernel is missing; 'reference' takes the
            pure-PyTorch losses.
    Raises:
        ValueError: for any other name.

    >>> with kdops.backend("reference"):
    ...     loss = kdops.rkd_distance_loss(student, teacher)
    """

    def __init__(self, name: str):
        self.name = _valid(name, "kdops.backend: name")

    def __enter__(self) -> "backend":
        self.previous = choice.name
        choice.name = self.name
        return self

    def __exit__(self, *exception: object) -> None:
        choice.name = self.previous
