"""The picture of a file of results: python -m benchmarks.plots [results.json].

Time of a step over the size, kdops and its rivals, log-log, a panel a loss; the last is memory.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from kdops.bench.text import MIB

from .report import COLUMNS, FOLDER

STYLES = {  # colours that stay apart for the colour-blind (Okabe and Ito)
    "kdops": {"color": "#D55E00", "marker": "o", "linewidth": 2.4, "markersize": 6, "zorder": 5},
    "eager": {"color": "#0072B2", "marker": "s"},
    "published": {"color": "#009E73", "marker": "^"},
    "torchdistill": {"color": "#CC79A7", "marker": "D"},
    "compile": {"color": "#56B4E9", "marker": "v"},
}
LABELS = {"eager": "eager PyTorch", "published": "published formula", "compile": "torch.compile"}
TITLES = {
    "kd_loss": "Temperature KD",
    "rkd_angle_loss": "RKD angle",
    "rkd_distance_loss": "RKD distance",
    "irg_edge_loss": "IRG edges",
    "cckd_loss": "CCKD",
    "pkt_loss": "PKT",
    "sp_loss": "SP",
}


def seconds(row: dict, name: str) -> float | None:
    if name == "kdops":
        return row["seconds"]
    return row["seconds"] * row["ratio"][name] if name in row["ratio"] else None


def memory(row: dict, name: str) -> float | None:
    return row["memory"][name] / MIB if name in row["memory"] else None


def lines(axis, rows: list[dict], across: int, value) -> None:
    """A line a name over shape[across]; of two rows at one place the first."""
    places = {row["shape"][across]: row for row in reversed(rows)}
    points = sorted(places.items())
    for name in ("kdops", *COLUMNS):
        found = [(x, y) for x, y in ((x, value(row, name)) for x, row in points) if y]
        if found:
            style = {"linewidth": 1.3, "markersize": 4.5} | STYLES[name]
            axis.plot(*zip(*found, strict=True), label=LABELS.get(name, name), **style)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks([x for x, _ in points])
    axis.set_xticklabels(["{}x{}".format(*row["shape"]) for _, row in points], fontsize=8)
    plt.setp(axis.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.minorticks_off()
    axis.grid(True, color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)


def panel(axis, case: str, rows: list[dict]) -> None:
    across, unit = (1, "µs a row") if case == "kd_loss" else (0, "ms a step")

    def value(row, name):
        time = seconds(row, name)
        if time is None:
            return None
        return time * 1e6 / row["shape"][0] if across else time * 1e3

    lines(axis, rows, across, value)
    axis.set_title(TITLES[case], loc="left", fontweight="bold", fontsize=11)
    axis.set_ylabel(unit)
    axis.set_xlabel("rows x classes" if across else "rows x features")


def draw(results: dict, path: Path) -> None:
    """Write the picture; float32 and the plain distribution only."""
    rows = [
        row
        for row in results["rows"]
        if (row["group"], row["dtype"], row["distribution"]) == ("losses", "float32", "randn")
    ]
    by_case = {case: [row for row in rows if row["case"] == case] for case in TITLES}
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.6), layout="constrained")
    for axis, (case, found) in zip(axes.flat, by_case.items(), strict=False):
        panel(axis, case, found)
    last = axes.flat[-1]
    lines(last, by_case["rkd_angle_loss"], 0, memory)
    last.set_title("RKD angle: peak memory", loc="left", fontweight="bold", fontsize=11)
    last.set_ylabel("MiB above the inputs")
    last.set_xlabel("rows x features")
    named = {}
    for axis in axes.flat:
        handles, labels = axis.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(
        f"Forward and backward on {results['processor']}, {results['threads']} thread, float32, "
        f"torch {results['torch']}, {results['date']}",
        fontsize=11,
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="*", help="default: all in benchmarks/results")
    for path in parser.parse_args().results or sorted(FOLDER.glob("*.json")):
        results = json.loads(path.read_text())
        if "card" not in results:  # a GPU's have a table alone
            draw(results, path.with_suffix(".svg"))


if __name__ == "__main__":
    main()
