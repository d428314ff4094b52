"""How the recipes' weights were chosen: on validation images, with seeds that no table reads.

KD's, RKD's, IRG's, CCKD's and PKT's were chosen before in the same way, in training without shifts.
"""

from pathlib import Path

from rich.console import Console

from ..results.compare import Entry
from ..results.tables import Table, spread
from ..training.data import load
from ..training.run import Setting
from .study import Arm, run

SEEDS = range(100, 102)
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


def arms() -> dict[str, Arm]:
    return {
        f"{recipe} {option}={value}": Arm(recipe, changes={option: value})
        for recipe, (option, values) in GRID.items()
        for value in values
    }


def table(entries: dict[str, Entry]) -> Table:
    lines = []
    for name, entry in entries.items():
        lines.append([name, spread([result["val"] for result in entry.results])])
    title = f"Validation accuracy, seeds {SEEDS[0]} to {SEEDS[-1]}, mean ± sd"
    return Table(title, ["recipe and option", "val %"], lines)


def study(out: Path, setting: Setting, console: Console) -> None:
    """Train the whole grid; the test images are not looked at for any choice."""
    found = run(arms(), setting, SEEDS, out, load(setting.data), console)
    result = table(found)
    result.print(console)
    (out / "tuning.md").write_text(result.markdown(), encoding="utf-8")
