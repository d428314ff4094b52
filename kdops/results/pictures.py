"""The pictures' common look, and that of paired gains."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from .statistics import Gain

# three of Okabe and Ito's colours, told apart in most forms of colour blindness
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#666666"


def new_figure(rows: int, columns: int, size: tuple[float, float]):
    return plt.subplots(rows, columns, figsize=size, layout="constrained")


def save(figure, path: Path) -> None:
    """The same picture gives the same file, date and names of parts included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with matplotlib.rc_context({"svg.hashsalt": "kdops", "svg.fonttype": "none"}):
        figure.savefig(path, dpi=150, bbox_inches="tight", pad_inches=0.15, metadata=metadata)
    plt.close(figure)


def plot_gains(path: Path, gains: dict[str, Gain], title: str, subtitle: str = "") -> None:
    """A dot per seed, a bar at the mean; the baseline of the same seed is 0."""
    figure, axes = new_figure(1, 1, (8.5, 0.5 * len(gains) + 2))
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
    figure.suptitle(title)
    axes.set_title(subtitle, fontsize="small", color=GREY)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    save(figure, path)
