"""The two pictures of the demo."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from .experiments import CONTROL, MISSING, Config, Run
from .report import gains_of, select

# three of Okabe and Ito's colours, told apart in most forms of colour blindness
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#666666"
STUDENTS = {
    "hard": ("hard labels", GREY),
    "soft": ("soft targets", ORANGE),
    "soft + bias": ("soft targets + bias from val", BLUE),
}


def plot_gains(path: Path, runs: list[Run], config: Config) -> None:
    """A dot per seed, a bar at the mean; the baseline of the same seed is 0."""
    gains = gains_of(runs)
    figure, axes = plt.subplots(figsize=(8.5, 0.5 * len(gains) + 2), layout="constrained")
    axes.axvline(0, color=GREY, linewidth=1)
    for height, gain in enumerate(gains.values()):
        color = BLUE if gain.verdict in ("better", "worse") else GREY
        axes.plot(gain.points, [height] * len(gain.points), "o", color=color, alpha=0.6)
        axes.plot([gain.mean] * 2, [height - 0.28, height + 0.28], color=color, linewidth=2.5)
        axes.annotate(
            f"{gain.mean:+.2f}  {gain.verdict}",
            (1.02, height),
            xycoords=("axes fraction", "data"),
            va="center",
            color=color,
        )
    axes.set_yticks(range(len(gains)), list(gains))
    axes.set_ylim(len(gains) - 0.5, -0.5)
    axes.set_xlabel("points of test accuracy above the baseline of the same seed (0)")
    figure.suptitle(f"Gain with {config.labels} labels ({config.data}): dot = seed, bar = mean")
    axes.set_title(
        f"{CONTROL}: its teacher saw the student's own {config.labels} images alone",
        fontsize="small",
        color=GREY,
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _save(figure, path)


def plot_missing_class(path: Path, runs: list[Run], config: Config) -> None:
    """Accuracy of each digit, mean over seeds, for the three students."""
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    axes.axvspan(MISSING - 0.5, MISSING + 0.5, color="#eeeeee", zorder=0)
    width = 0.28
    for index, (name, (label, color)) in enumerate(STUDENTS.items()):
        values = np.array([run.per_digit for run in select(runs, "missing class", name)])
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
    figure.suptitle(f"A student that never saw a {MISSING} ({config.data}): dot = seed, bar = mean")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _save(figure, path: Path) -> None:
    figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.15)
    plt.close(figure)
