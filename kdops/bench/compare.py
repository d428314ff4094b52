"""A case timed: kdops, its reference, and what stands for it today."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import kdops

from .. import _backend, _native
from . import eager, measure
from .cases import Case
from .rivals import Rival, rival, torchdistill

REFERENCE = "kdops' reference"
NAMES = {
    "eager": "eager PyTorch",
    "published": "published formula",
    "torchdistill": "torchdistill",
}


@dataclass(frozen=True)
class Line:
    """What one form took; the errors are None without an exact answer."""

    name: str
    seconds: float
    ratio: float
    memory: int
    loss_error: float | None = None
    gradient_error: float | None = None


@dataclass(frozen=True)
class Report:
    case: Case
    backend: str
    rounds: int
    lines: list[Line]
    left_out: dict[str, str]  # what was not run, and why


class _Called(TorchDispatchMode):
    """Notes whether an op of kdops' libraries is called."""

    native = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.native |= function.namespace == "kdops"
        return function(*args, **(kwargs or {}))


def has_kernels(device: str) -> bool:
    """Whether kdops' kernels are to be expected on a device."""
    return _backend.choice.name != "reference" and device in _native.loaded


def backend_that_ran(case: Case, run: Callable) -> str:
    """Which implementation answers `run`, seen from the ops that it calls, and why."""
    with _Called() as called:
        run()
    device = torch.device(case.device).type
    if called.native:
        return f"native kernels, {device} library for {_native.level(device)}"
    if _backend.choice.name == "reference":
        return "reference: chosen by KDOPS_BACKEND or kdops.backend"
    reason = _native.errors.get(device, "no kernel serves this call")
    return f"reference: {device} library: {reason}"


def _by_reference(function: Callable) -> Callable:
    def call(student, teacher):
        with kdops.backend("reference"):
            return function(student, teacher)

    return call


def _rivals(case: Case) -> Iterator[tuple[str, Rival, int]]:
    """(name, rival, bytes that it holds at most)."""
    yield REFERENCE, Rival(_by_reference(case.function)), case.held(reference=True)
    for key, name in NAMES.items():
        if found := rival(key, case.op, {}):
            yield name, Rival(case.as_number(found.function), found.factor), case.held()


def _forward(function: Callable, student, teacher) -> Callable:
    def run() -> None:
        with torch.no_grad():
            function(student, teacher)

    return run


def _exact(case: Case, student, teacher):
    """Value and gradient of eager PyTorch in float64."""
    leaf = student.detach().double().requires_grad_()
    return measure.result(case.as_number(getattr(eager, case.op)), leaf, teacher.double(), {})


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _collect(case: Case, limit: float) -> tuple[dict[str, Rival], dict[str, str]]:
    """The forms that fit in `limit` bytes, kdops first; what is left out, and why."""
    taken, left_out = {"kdops": Rival(case.function)}, {}
    if torchdistill is None:
        left_out[NAMES["torchdistill"]] = "not installed"
    for name, opponent, held in _rivals(case):
        if held > limit:
            left_out[name] = f"may hold {held / 2**30:.1f} GiB, --memory is {limit / 2**30:g}"
        else:
            taken[name] = opponent
    return taken, left_out


def _answers(taken: dict[str, Rival], given, oracle, left_out: dict[str, str]) -> dict[str, dict]:
    """The errors of each form, which is put to `left_out` where it does not run."""
    errors = {}
    for name, form in taken.items():
        try:
            found = measure.result(form.function, *given, {})
        except (RuntimeError, ArithmeticError) as error:
            if name == "kdops":
                raise
            left_out[name] = _reason(error)
            continue
        scaled = (x * form.factor for x in found)
        errors[name] = measure.errors(*scaled, oracle) if oracle else {}
    return errors


def compare(case: Case, budget: float, limit: float, forward_only: bool, clock) -> Report:
    """Time, memory and errors of a case.

    Args:
        case: function and sizes.
        budget: seconds of the timed rounds; a longer round is taken once.
        limit: bytes; a form that may hold more is left out.
        forward_only: whether the gradient is left out of time and memory.
        clock: gives seconds.
    Raises:
        RuntimeError: where kdops itself cannot run: a chosen library that is missing.
    """
    given = case.inputs()
    taken, left_out = _collect(case, limit)
    oracle = _exact(case, *given) if case.held(exact=True) <= limit else None
    if oracle is None:
        left_out["errors"] = f"float64 may hold {case.held(exact=True) / 2**30:.1f} GiB"
    make = _forward if forward_only else partial(measure.step, options={})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="kdops runs")  # the report says it
        errors = _answers(taken, given, oracle, left_out)
        runs = {name: make(taken[name].function, *given) for name in errors}
        backend = backend_that_ran(case, runs["kdops"])
        times = measure.interleaved(runs, budget, clock)
        memory = {name: measure.peak_memory(run, given[0]) for name, run in runs.items()}
    lines = [
        Line(
            name,
            measure.quantile(times[name], 0.5),
            measure.ratio(times[name], times["kdops"]),
            memory[name],
            **errors[name],
        )
        for name in runs
    ]
    return Report(case, backend, len(times["kdops"]), lines, left_out)
