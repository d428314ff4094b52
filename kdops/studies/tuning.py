"""How the recipes' weights were chosen: on validation images, with seeds that no table reads.

KD's, RKD's, IRG's, CCKD's and PKT's were chosen before in the same way, in training without shifts.
"""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ..results.compare import Entry
from ..results.tables import Table, spread
from ..training.data import load
from ..training.setting import Setting
from . import questions
from .study import Arm, run

FIRST_SEED = 100
GRID = {
    "hkd": ("weight", (100, 1000, 10000)),
    "sp": ("weight", (30, 300, 3000)),
    "at": ("weight", (10, 100, 1000)),
    "dkd": ("rest_weight", (1, 3, 8)),
    "dist": ("weight", (2, 8, 30)),
    "logit-standardization": ("weight", (1, 3, 9)),
    "vid": ("weight", (0.03, 0.3, 3)),
    "irg-to-many": ("edge_weight", (1, 10, 100)),
    "fitnets-joint": ("hint_weight", (1, 10, 100)),
}
# the same for arms of `questions` that are no recipe's
QUESTIONS = {
    "logits": ("weight", (0.03, 0.3, 3)),
    "soft-targets": ("kd_weight", (0.9, 3, 9)),
    "edges": ("edge_weight", (0.1, 1, 10, 100)),
    "soft-edges": ("weight", (0.3, 3, 30, 300)),
    "raw-distance": ("weight", (0.001, 0.01, 0.1, 1)),
    "edges-logits": ("vertex_weight", (0.03, 0.3, 3, 30)),
    "edges-soft-targets": ("kd_weight", (0.9, 3, 9)),
}


def arms() -> dict[str, Arm]:
    recipes = {name: Arm(name) for name in GRID}
    found = {}
    for bases, grid in ((recipes, GRID), (questions.ARMS, QUESTIONS)):
        for name, (option, values) in grid.items():
            for value in values:
                changes = {**bases[name].changes, option: value}
                found[f"{name} {option}={value}"] = replace(bases[name], changes=changes)
    return found


def table(entries: dict[str, Entry]) -> Table:
    lines = []
    for name, entry in entries.items():
        lines.append([name, spread([result["val"] for result in entry.results])])
    seeds = next(iter(entries.values())).seeds
    title = f"Validation accuracy, seeds {seeds[0]} to {seeds[-1]}, mean ± sd"
    return Table(title, ["recipe and option", "val %"], lines)


def study(out: Path, setting: Setting, seeds: int, console: Console) -> None:
    """Train the whole grid; the test images are not looked at for any choice."""
    numbers = range(FIRST_SEED, FIRST_SEED + seeds)
    found = run(arms(), setting, numbers, out, load(setting.data), console)
    result = table(found)
    result.print(console)
    (out / "tuning.md").write_text(result.markdown(), encoding="utf-8")
