"""The tables, once as rows: printed by rich, and written as Markdown and JSON."""

import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

import kdops

from .experiments import ALL_LABELS, BASELINE, CONTROL, MISSING, Config, Run
from .statistics import LEVEL, Gain, mean_sd, paired_gains
from .timing import LossTime


@dataclass(frozen=True)
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def print(self, console: Console) -> None:
        table = RichTable(box=SIMPLE_HEAD, padding=0, pad_edge=False)
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        console.print(f"\n{self.title}", style="bold")
        console.print(table)
        for note in self.notes:
            console.print(f"- {note}")

    def markdown(self) -> str:
        lines = [
            [c.replace("\n", " ") for c in self.columns],
            ["---"] + ["---:"] * (len(self.columns) - 1),
            *self.rows,
        ]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"## {self.title}\n\n{table}\n\n" + "".join(f"- {note}\n" for note in self.notes)


def select(runs: list[Run], experiment: str, method: str) -> list[Run]:
    return [run for run in runs if (run.experiment, run.method) == (experiment, method)]


def scores(runs: list[Run], experiment: str, method: str) -> list[float]:
    return [run.test for run in select(runs, experiment, method)]


def methods(runs: list[Run], experiment: str) -> list[str]:
    return list(dict.fromkeys(run.method for run in runs if run.experiment == experiment))


def spread(values: list[float], sign: str = "") -> str:
    mean, sd = mean_sd(values)
    return f"{mean:{sign}.2f}" if math.isnan(sd) else f"{mean:{sign}.2f} ± {sd:.2f}"


def probability(p: float) -> str:
    return "-" if math.isnan(p) else f"{p:.3f}"


def gains_of(runs: list[Run]) -> dict[str, Gain]:
    names = [name for name in methods(runs, "gains") if name != BASELINE]
    return paired_gains(
        scores(runs, "gains", BASELINE), {name: scores(runs, "gains", name) for name in names}
    )


def gains_table(runs: list[Run], config: Config, pool: int) -> Table:
    rows, gains = [], gains_of(runs)
    for name in methods(runs, "gains"):
        saw = {BASELINE: "-", CONTROL: str(config.labels)}.get(name, str(pool))
        row = [name, saw, spread(scores(runs, "gains", name))]
        if gain := gains.get(name):
            wins = f"{gain.wins}/{config.seeds}"
            row += [spread(gain.points, "+"), wins, probability(gain.p_holm), gain.verdict]
        rows.append(row + [""] * (7 - len(row)))
    columns = ["method", "teacher\nsaw", "test %", "gain", "wins", "Holm\np", "verdict"]
    title = (
        f"Distillation with {config.labels} labels, {config.steps} steps each "
        f"({config.data}, {_seeds(config)}, mean ± sd)"
    )
    return Table(title, columns, rows, _gains_notes(runs, gains, config, pool))


def _seeds(config: Config) -> str:
    return "1 seed" if config.seeds == 1 else f"{config.seeds} seeds"


def _gains_notes(runs: list[Run], gains: dict[str, Gain], config: Config, pool: int) -> list[str]:
    own = next(name for name in methods(runs, "teacher") if name != ALL_LABELS)
    notes = [
        f"Teacher saw {pool} labels (test {spread(scores(runs, 'teacher', ALL_LABELS))} %), "
        f"student {config.labels}. {CONTROL}: a teacher of the student's own "
        f"{config.labels} images (test {spread(scores(runs, 'teacher', own))} %).",
        "All nets, the baseline too, learn from randomly shifted images; the teacher answers the "
        "same shifted batch. A seed fixes the images, initial weights and batches of all methods.",
        "The methods' weights were tuned beforehand (MNIST, without shifts), the baseline was not. "
        "IRG's loss includes the mean squared difference of the logits.",
        f"Against the baseline: {_by_verdict(gains)}. No ranking among the methods is claimed.",
    ]
    if config.seeds > 1:
        notes.append(
            f"Verdict: two-sided paired t test over {config.seeds} seeds, Holm's correction for "
            f"{len(gains)} comparisons, level {LEVEL}. {config.seeds - 1} degrees of freedom call "
            "only a large and steady gain a gain; more --seeds tell more. One split, one teacher."
        )
    return notes


def _by_verdict(gains: dict[str, Gain]) -> str:
    verdicts = dict.fromkeys(gain.verdict for gain in gains.values())
    names = {v: [name for name, gain in gains.items() if gain.verdict == v] for v in verdicts}
    return "; ".join(f"{verdict}: {', '.join(names[verdict])}" for verdict in verdicts)


def missing_table(runs: list[Run], config: Config) -> Table:
    rows = []
    for name in methods(runs, "missing class"):
        own = select(runs, "missing class", name)
        others = [_others(run) for run in own]
        bias = spread([run.bias for run in own]) if "bias" in name else "-"
        missing = [run.per_digit[MISSING] for run in own]
        rows.append([name, spread([r.test for r in own]), spread(missing), spread(others), bias])
    columns = ["student", "test %", f"{MISSING}s %", "others %", "bias"]
    title = f"A student that never saw a {MISSING} ({config.data}, {_seeds(config)}, mean ± sd)"
    return Table(title, columns, rows, _missing_notes(rows))


def _others(run: Run) -> float:
    rest = [value for digit, value in enumerate(run.per_digit) if digit != MISSING]
    return sum(rest) / len(rest)


def _missing_notes(rows: list[list[str]]) -> list[str]:
    right = {row[0]: f"{row[2]} %" for row in rows}
    return [
        f"Right on the {MISSING}s: {right['hard']} from labels, {right['soft']} from the teacher's "
        f"soft targets (T = 4, no labels), {right['soft + bias']} with a bias on the {MISSING}'s "
        f"logit. The same bias search gives the student of labels {right['hard + bias']}.",
        "The teacher saw all digits. The bias is chosen on validation images, and those do "
        f"contain {MISSING}s.",
        "No shifts for these students; 'others' is the mean of nine digits' accuracies.",
    ]


def timing_table(times: list[LossTime], config: Config, unserved: dict[str, str]) -> Table:
    rows = []
    for time in times:
        seconds = time.reference_us * config.steps / 1e6
        row = [time.method, f"{time.reference_us:.0f}", "-", "-", f"{seconds:.2f}", "-"]
        if time.native_us is not None:
            ratio = time.reference_us / time.native_us
            row[2:4] = f"{time.native_us:.0f}", f"{ratio:.1f}"
            row[5] = f"{time.native_us * config.steps / 1e6:.2f}"
        rows.append(row)
    columns = ["method", "reference\nµs", "fused\nµs", "ratio", "reference\ns/run", "fused\ns/run"]
    notes = [
        "The whole objective, forward and backward, in the sizes of the training above; CPU time "
        "on one thread, median of alternated blocks. Reference: kdops' own PyTorch version.",
    ]
    for reason in dict.fromkeys(unserved.values()):
        names = ", ".join(name for name in unserved if unserved[name] == reason)
        notes.append(f"No fused figures for {names}: {reason}")
    return Table("Time spent in the loss itself", columns, rows, notes)


def environment() -> dict:
    packages = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib", "rich")
    return {
        "kdops": kdops.__version__,
        **{name: metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def write_json(path: Path, config: Config, runs: list[Run], times: list[LossTime], **more) -> None:
    """All runs with their seeds; nan (no spread, no test with one seed) is written as null."""
    gains = {name: {**asdict(g), "verdict": g.verdict} for name, g in gains_of(runs).items()}
    content = {
        "config": asdict(config),
        "environment": environment(),
        "runs": [asdict(run) for run in runs],
        "gains": gains,
        "loss_times": [asdict(time) for time in times],
        **more,
    }
    path.write_text(json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n")


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
