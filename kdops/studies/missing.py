"""A class that the student never saw: labels or soft targets, then a bias that val chose."""

from pathlib import Path

import numpy as np

from ..results.compare import Entry
from ..results.pictures import BLUE, GREY, ORANGE, new_figure, save
from ..results.tables import Table, seeds_text, spread
from .study import Arm

MISSING = 3
STUDENT = {"student": "missing", "augment": False, "missing": MISSING}
ARMS = {
    "hard": Arm("labels", STUDENT),
    "soft": Arm("soft", STUDENT),
}
STUDENTS = {
    "hard": ("hard labels", GREY),
    "soft": ("soft targets", ORANGE),
    "soft + bias": ("soft targets + bias from val", BLUE),
}


def outcomes(entry: Entry, biased: bool) -> list[dict]:
    """Test accuracies of each seed, without or with the bias."""
    return [result["biased"] if biased else result for result in entry.results]


def rows(entries: dict[str, Entry]):
    for biased in (False, True):
        for name, entry in entries.items():
            yield name + " + bias" * biased, outcomes(entry, biased)


def missing_table(entries: dict[str, Entry]) -> Table:
    lines = []
    for name, found in rows(entries):
        missing = [x["per_class"][MISSING] for x in found]
        others = [float(np.mean(np.delete(x["per_class"], MISSING))) for x in found]
        bias = spread([x["bias"] for x in found]) if "bias" in name else "-"
        test = spread([x["test"] for x in found])
        lines.append([name, test, spread(missing), spread(others), bias])
    columns = ["student", "test %", f"{MISSING}s %", "others %", "bias"]
    first = next(iter(entries.values()))
    title = (
        f"A student that never saw a {MISSING} ({first.setting['data']}, "
        f"{seeds_text(len(first.seeds))}, mean ± sd)"
    )
    return Table(title, columns, lines, _notes(lines))


def _notes(lines: list[list[str]]) -> list[str]:
    right = {line[0]: f"{line[2]} %" for line in lines}
    return [
        f"Right on the {MISSING}s: {right['hard']} from labels, {right['soft']} from the teacher's "
        f"soft targets (T = 4, no labels), {right['soft + bias']} with a bias on the {MISSING}'s "
        f"logit. The same bias search gives the student of labels {right['hard + bias']}.",
        "The teacher saw all digits. The bias is chosen on validation images, and those do "
        f"contain {MISSING}s.",
        "No shifts for these students; 'others' is the mean of nine digits' accuracies.",
    ]


def plot_missing_class(path: Path, entries: dict[str, Entry]) -> None:
    """Accuracy of each digit, mean over seeds, for the three students."""
    figure, axes = new_figure(1, 1, (9, 4))
    axes.axvspan(MISSING - 0.5, MISSING + 0.5, color="#eeeeee", zorder=0)
    width, found = 0.28, dict(rows(entries))
    for index, (name, (label, color)) in enumerate(STUDENTS.items()):
        values = np.array([outcome["per_class"] for outcome in found[name]])
        mean, places = values.mean(0), np.arange(values.shape[1]) + (index - 1) * width
        axes.bar(places, mean, width, color=color, label=label, zorder=2)
        axes.plot(places, values.T, ".", color="black", markersize=3, zorder=3, clip_on=False)
        top = values[:, MISSING].max() + 2
        axes.text(places[MISSING], top, f"{mean[MISSING]:.0f}", ha="center", color=color)
    axes.set_xticks(range(10))
    axes.set_xlim(-0.5, 9.5)
    axes.set_ylim(0, 104)
    axes.set_xlabel("digit")
    axes.set_ylabel("test accuracy, %")
    data = next(iter(entries.values())).setting["data"]
    figure.suptitle(f"A student that never saw a {MISSING} ({data}): dot = seed, bar = mean")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
