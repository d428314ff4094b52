"""The figures of one workload: agreement first, then blocks of ours and of each rival by turns."""

import math
import statistics
from time import perf_counter

import torch

from kdops.bench import measure
from kdops.bench.rivals import PEERS, Rival, rival
from tests.metrics import gradient_error, value_error
from tests.test_accuracy import conditioned

from .. import oracle
from . import liger
from .floors import Rates, floor, repeats

ROW_SECONDS = 3.0  # of rounds after which no further one is begun
WALL_BLOCKS = 5
ANGLE_ROWS = 1024  # the angle loss's oracle goes vertex by vertex


def reason(error: Exception) -> str:
    """An exception in a line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:160]


def inputs(workload, device: str) -> tuple:
    student, teacher, options = workload.inputs()
    options = {key: x.to(device) if torch.is_tensor(x) else x for key, x in options.items()}
    teacher = None if teacher is None else teacher.to(device)
    return student.detach().to(device).requires_grad_(), teacher, options


def _exact(workload, given: tuple, reasons: dict):
    if workload.case.stem == "rkd_angle_loss" and workload.shape[0] > ANGLE_ROWS:
        reasons["float64"] = "not checked: takes too long"
        return None
    try:
        return oracle.exact(workload, *given, rows=math.inf)
    except Exception as error:
        reasons["float64"] = reason(error)
        return None


def _accuracy(workload, result: tuple, exact: tuple) -> dict:
    """Our errors as the tests measure them, and the bounds of the case's tolerance."""
    tolerance = workload.case.tolerance
    harder = conditioned(workload.case, workload.shape)
    bounds = [bound * harder for bound in tolerance.of(workload.dtype, workload.distribution)]
    absolute = tolerance.is_absolute(workload.distribution)
    value = value_error(result[0], exact[0], absolute, tolerance.floor)
    return {"found": [value, gradient_error(result[1], exact[1])], "bounds": bounds}


def _opponent(workload, name: str) -> Rival | None:
    if name == "kdops":
        return Rival(workload.case.function)
    if name == "liger":
        return liger.rival()
    return rival(name, workload.case.stem, workload.case.options)


def _agree(workload, names, given: tuple, exact, clock, reasons: dict) -> tuple[dict, dict]:
    """Steps of what computes the same thing, warmed up, and the figures of their results."""
    runs, figures = {}, {"errors": {}}
    for name in names:
        try:
            opponent = _opponent(workload, name)
            if opponent is None:
                continue
            value, gradient = measure.result(opponent.function, *given)
            result = value * opponent.factor, gradient * opponent.factor
            if exact:
                errors = measure.errors(*result, exact)
                if not max(errors.values()) < measure.TOLERANCE[workload.dtype]:
                    raise ArithmeticError(f"does not agree with float64: {errors}")
                figures["errors"][name] = errors
                if name == "kdops":
                    figures["accuracy"] = _accuracy(workload, result, exact)
            runs[name] = measure.step(opponent.function, *given)
            clock.host(runs[name])
        except Exception as error:
            runs.pop(name, None)
            reasons[name] = reason(error)
        clock.free()
    return runs, figures


def _rounds(clock, runs: dict, binds: str, rounds: int) -> dict:
    """Seconds of a step, by turns on the device, then on the host's clock."""
    hosts = {name: clock.host(run) for name, run in runs.items()}
    counts = {name: repeats(binds, clock.wall(run, 1)) for name, run in runs.items()}
    device = {name: [] for name in runs}
    start = perf_counter()
    for done in range(rounds):
        if done >= 3 and perf_counter() - start > ROW_SECONDS:
            break
        for name, run in runs.items():
            device[name].append(clock.device(run, counts[name], hosts[name]))
    walls = {}
    for name, run in runs.items():
        count = repeats("launches", statistics.median(device[name]))
        walls[name] = statistics.median(clock.wall(run, count) for _ in range(WALL_BLOCKS))
    ours = device["kdops"]
    return {
        "rounds": len(ours),
        "device": {name: measure.quantile(seconds, 0.5) for name, seconds in device.items()},
        "wall": walls,
        "host": hosts,
        "ratio": {name: measure.ratio(device[name], ours) for name in runs if name != "kdops"},
    }


def _alone(workload, clock, run, given: tuple, binds: str, reasons: dict) -> dict:
    """Ours alone: whether it waits for the device, and the replay of a graph of it."""
    student, *rest = given
    leaf = student.detach().clone().requires_grad_()
    fresh = measure.step(workload.case.function, leaf, *rest)
    questions = {"waits": lambda: clock.waits(run)}
    if binds == "launches":
        questions["graph"] = lambda: clock.replay(fresh, leaf)
    figures = {"launches": None}
    for name, ask in questions.items():
        try:
            figures[name] = ask()
        except Exception as error:
            figures[name], reasons[name] = None, reason(error)
    return figures


def measured(row: dict, workload, clock, rates: Rates, rounds: int) -> None:
    """What the results keep, into the row; raises where ours fails or computes another thing."""
    reasons: dict[str, str] = {}
    clock.free()
    given = inputs(workload, clock.name)
    exact = _exact(workload, given, reasons)
    names = ("kdops", *workload.rivals)
    runs, figures = _agree(workload, names, given, exact, clock, reasons)
    del exact
    clock.free()
    if "kdops" not in runs:
        raise RuntimeError(reasons["kdops"])
    binds, least = floor(workload, rates)
    figures |= _rounds(clock, runs, binds, rounds)
    peers = [ratio for name, ratio in figures["ratio"].items() if name in PEERS]
    figures |= {
        "peer": min(peers, default=None),
        "binds": binds,
        "cold": binds != "launches",
        "floor": least,
        "limit": figures["device"]["kdops"] / least,
        "memory": {name: clock.memory(run, given[0]) for name, run in runs.items()},
    }
    alone = _alone(workload, clock, runs["kdops"], given, binds, reasons)
    row |= figures | alone | {"reasons": reasons}


def compiled(workload, row: dict, clock, rounds: int) -> None:
    """torch.compile's figures, into the row, from rounds of their own."""
    given = inputs(workload, clock.name)
    exact = _exact(workload, given, row["reasons"])
    runs, figures = _agree(workload, ("kdops", "compile"), given, exact, clock, row["reasons"])
    row["errors"] |= figures["errors"]
    if len(runs) == 2:
        figures = _rounds(clock, runs, row["binds"], rounds)
        for key in ("device", "wall", "host", "ratio"):
            row[key]["compile"] = figures[key]["compile"]


def counted(workload, row: dict, clock) -> None:
    """How many launches, into the row: a profiler counts them, so after all that is timed."""
    run = measure.step(workload.case.function, *inputs(workload, clock.name))
    clock.host(run)
    row["launches"] = clock.launches(run)
