"""One item a workload: outputs agree, then blocks of ours and of each rival by turns.

pytest-benchmark times our block. Its setup, before every round, times one block of each rival and
of each probe of the limit, so that a ratio compares neighbours on a machine that is never quiet.
"""

import time

import pytest
import torch

from kdops.bench import measure
from kdops.bench.rivals import PEERS, rival

from .limits import LIMITS, PROBES
from .oracle import exact
from .workloads import WORKLOADS

LONG = 15.0  # seconds of a round that is not repeated
DEGENERATE = 3  # fewer rows have no relation: eager gives NaN, or a gradient of rounding errors


def agreed(workload, rivals, inputs) -> dict:
    """Errors against float64, ours and every rival's; fails where one computes another thing."""
    if workload.case.kind == "pairs" and workload.shape[0] < DEGENERATE:
        return {}
    oracle = exact(workload, *inputs)
    errors = {"kdops": measure.errors(*measure.result(workload.case.function, *inputs), oracle)}
    for name, opponent in rivals.items():
        value, gradient = measure.result(opponent.function, *inputs)
        scaled = value * opponent.factor, gradient * opponent.factor
        errors[name] = measure.errors(*scaled, oracle)
    tolerance = measure.TOLERANCE[workload.dtype]
    for name, error in errors.items():
        agree = all(x < tolerance for x in error.values())  # NaN is not
        assert agree, f"{name} does not agree with the oracle: {error}"
    return errors if oracle[1].dtype == torch.float64 else {}


def alternate(benchmark, runs: dict, budget: float) -> dict[str, list[float]]:
    """Seconds a run of each, one figure a round; ours last in its round."""
    blocks = {name: measure.calibrated(run) for name, run in runs.items()}
    counts = {name: count for name, (count, _) in blocks.items()}
    times = {name: [] for name in runs if name != "kdops"}

    def others() -> None:
        for name, seconds in times.items():
            seconds.append(measure.seconds(runs[name], counts[name]))
        if counts["kdops"] > 1:
            runs["kdops"]()

    spent = sum(seconds for _, seconds in blocks.values())
    rounds = 1 if spent > LONG else measure.rounds_within(budget, spent)
    arguments = (runs["kdops"], counts["kdops"])
    benchmark.pedantic(measure.block, args=arguments, setup=others, rounds=rounds)
    ours = [seconds / counts["kdops"] for seconds in benchmark.stats.stats.data]
    return {"kdops": ours, **times}


def limit_seconds(workload, times: dict) -> list[float]:
    probes, formula = LIMITS[workload.limit]
    rounds = zip(*(times[probe] for probe in probes), strict=True)
    labels = workload.case.labels
    return [
        formula(dict(zip(probes, seconds, strict=True)), workload.shape, workload.dtype, labels)
        for seconds in rounds
    ]


def figures(workload, rivals, runs: dict, times: dict, student: torch.Tensor) -> dict:
    """What the results keep of one workload."""
    ours = times["kdops"]
    row = {"seconds": measure.quantile(ours, 0.25), "rounds": len(ours), "raw": times}
    row["ratio"] = {name: measure.ratio(times[name], ours) for name in rivals}
    peers = [row["ratio"][name] for name in rivals if name in PEERS]
    row["peer"] = min(peers, default=None)
    if workload.limit:
        row["limit"] = measure.ratio(ours, limit_seconds(workload, times))
    if workload.group == "losses":
        names = ("kdops", *rivals)
        row["memory"] = {name: measure.peak_memory(runs[name], student) for name in names}
    return row


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize(
    "workload", WORKLOADS, ids=lambda workload: f"{workload.group}: {workload}"
)
def test_speed(workload, benchmark, compiled, budget, record):
    torch.set_num_threads(1)
    inputs = workload.inputs()
    names = [name for name in workload.rivals if compiled or name != "compile"]
    rivals = {name: rival(name, workload.case.stem, workload.case.options) for name in names}
    rivals = {name: opponent for name, opponent in rivals.items() if opponent}
    errors = agreed(workload, rivals, inputs)
    functions = {name: opponent.function for name, opponent in rivals.items()}
    functions["kdops"] = workload.case.function
    runs = {name: measure.step(function, *inputs) for name, function in functions.items()}
    probes = LIMITS[workload.limit][0] if workload.limit else ()
    runs |= {name: PROBES[name](*inputs[:2]) for name in probes}
    if not benchmark.enabled:
        return
    row = figures(workload, rivals, runs, alternate(benchmark, runs, budget), inputs[0])
    record(workload, row | {"errors": errors})
