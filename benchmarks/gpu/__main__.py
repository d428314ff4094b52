"""Time kdops and its rivals on a GPU: benchmarks/results/<card>.json, and a table last.

A workload that fails is a row with the reason. After every row the file is written anew, so that
what was measured outlives what stops the run. torch.compile comes last, while there is time.
"""

import argparse
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

import kdops
from kdops import _native

from .. import machine, report
from . import card, liger, table
from .floors import rates
from .row import compiled, counted, measured, reason
from .timing import Cpu, Cuda
from .workloads import WORKLOADS
from .workloads import compiled as is_compiled

COMPILE_SECONDS = 25  # that one takes with its rounds, at most


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/<card>.json")
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels, Liger-Kernel's for one")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds, no compile")
    parser.add_argument("--compile", action="store_true", help="torch.compile also if --quick")
    parser.add_argument("--budget", type=float, default=150, help="seconds (default: 150)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a dry run")
    options = parser.parse_args(given)
    if options.device == "cpu" and not options.quick:
        parser.error("--device cpu is a dry run: it needs --quick")
    return options


def missing(device: str) -> str | None:
    """Why nothing can be timed."""
    if device == "cpu":
        return None
    if not torch.cuda.is_available():
        return "torch sees no GPU here; a dry run: --device cpu --quick"
    if kdops._backend.choice.name != "reference" and "cuda" not in _native.loaded:
        return f"kdops has no CUDA library: {_native.errors['cuda']}"
    return None


def chosen(options: argparse.Namespace) -> list:
    found = [workload for workload in WORKLOADS if options.only in str(workload)]
    return [each for each in found if each.tier == "quick"] if options.quick else found


def output(options: argparse.Namespace, name: str) -> Path | None:
    """None where a part of the workloads would replace the whole."""
    if options.out or options.quick or options.only:
        return options.out
    return report.FOLDER / f"{card.slug(name)}.json"


def timed(workloads: list, options: argparse.Namespace, clock, keep) -> None:
    """A row a workload, then parts of some rows; `keep` is called after each."""
    deadline = time.perf_counter() + options.budget
    rounds = 5 if options.quick else 20
    given = rates(clock)
    rows = []

    def attempt(make, into: dict, name: str, seconds: float) -> None:
        try:
            if time.perf_counter() > deadline - seconds:
                raise TimeoutError("no time left")
            make()
        except Exception as error:
            into[name] = reason(error)

    for workload in workloads:
        row = report.row(workload, {})
        attempt(partial(measured, row, workload, clock, given, rounds), row, "failed", 0)
        rows.append(row)
        keep(row, given)
    good = [pair for pair in zip(workloads, rows, strict=True) if "failed" not in pair[1]]
    for workload, row in good:
        if options.compile or (is_compiled(workload) and not options.quick):
            make = partial(compiled, workload, row, clock, rounds)
            attempt(make, row["reasons"], "compile", COMPILE_SECONDS)
            keep(None, given)
    for workload, row in good:
        if row["binds"] == "launches":
            attempt(partial(counted, workload, row, clock), row["reasons"], "launches", 0)
    keep(None, given)


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    workloads = chosen(options)
    if problem := missing(options.device) or ("" if workloads else "no workload has such a name"):
        print(problem, file=sys.stderr)
        return 2
    torch.set_num_threads(machine.THREADS)
    if options.wheels:
        liger.add_wheels(options.wheels)
    start = time.perf_counter()
    results = machine.description() | card.description(options.device) | {"rates": {}, "rows": []}
    path = output(options, results["card"])

    def keep(row: dict | None, rates) -> None:
        results["rates"], results["seconds"] = asdict(rates), time.perf_counter() - start
        if row:
            results["rows"].append(row)
            print(f"{results['seconds']:.0f} s: {row['name']}", row.get("failed", ""), flush=True)
            for name, why in row.get("reasons", {}).items():
                print(f"    {name}: {why}", flush=True)
        if path:
            report.write(results, path)

    timed(workloads, options, Cpu() if options.device == "cpu" else Cuda(), keep)
    print(f"\n{f'written to {path}' if path else 'no file is written'}\n\n{table.text(results)}")
    return int(any("failed" in row for row in results["rows"]))


if __name__ == "__main__":
    sys.exit(main())
