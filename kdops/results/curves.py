"""Loss and validation accuracy over the steps of a recipe's runs."""

from pathlib import Path

from .pictures import BLUE, GREY, new_figure, save
from .tables import seeds_text


def plot_curves(path: Path, results: list[dict]) -> None:
    """A line a seed; a recipe's phases one after the other, parted by lines."""
    figure, (losses, accuracies) = new_figure(1, 2, (9, 3.4))
    for result in results:
        start = 0
        for phase in result["phases"]:
            steps = [start + row["step"] for row in phase["history"]]
            losses.plot(steps, [row["loss"] for row in phase["history"]], color=BLUE, alpha=0.6)
            if all("val" in row for row in phase["history"]):
                values = [row["val"] for row in phase["history"]]
                accuracies.plot(steps, values, color=BLUE, alpha=0.6)
            start += phase["steps"]
            for axes in (losses, accuracies):
                axes.axvline(start, color=GREY, linewidth=0.5)
    losses.set_yscale("log")
    losses.set_ylabel("loss of a batch")
    accuracies.set_ylabel("validation accuracy, %")
    for axes in (losses, accuracies):
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{results[0]['title']}: {seeds_text(len(results))}")
    save(figure, path)
