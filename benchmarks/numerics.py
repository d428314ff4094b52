"""Where float32 fails the published formulas, in numbers and pictures.

`python -m benchmarks.numerics` tells three stories, each against the same formula in float64 on the
same inputs: the KL of a student that comes near its teacher, the angle loss's gradient at a
duplicated sample, the distance of samples that come near each other. --out DIR writes the pictures.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import kdops
from kdops.bench import measure, published
from kdops.bench.text import markdown

LOGITS, FEATURES = (64, 1000), (64, 128)
TEMPERATURE = 4.0
SPREADS = tuple(10.0**-power for power in range(8))
GAPS = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 0.0)
COLUMNS = {
    "kl": {
        "spread": "student - teacher",
        "exact": "exact KL",
        "published": "F.kl_div",
        "negative": "rows below 0",
        "kdops": "kdops",
        "published_half": "F.kl_div, bfloat16",
        "kdops_half": "kdops, bfloat16",
        "exact_half": "exact of the bfloat16 rows",
    },
    "angle": {
        "gap": "gap",
        "exact": "exact gradient",
        "published": "published",
        "kdops": "kdops",
        "published_error": "error of published",
        "kdops_error": "error of kdops",
    },
    "distance": {
        "gap": "gap",
        "exact": "exact distance",
        "published": "published",
        "kdops": "kdops",
        "published_error": "error of published",
        "kdops_error": "error of kdops",
    },
}
TITLES = {
    "kl": f"KL of {LOGITS[0]} rows of {LOGITS[1]} classes, T = {TEMPERATURE:g}, mean over rows",
    "angle": f"Norm of the angle loss's gradient, {FEATURES[0]} samples, two of them a gap apart",
    "distance": f"Distance of the two samples a gap apart, {FEATURES[1]} features of about 1",
}
NAMES = {"exact": "float64", "published": "published", "kdops": "kdops"}


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def exact(function: Callable, *tensors: Tensor, **options) -> Tensor:
    """By kdops' reference in float64, whose KL is a sum of terms >= 0 too."""
    with kdops.backend("reference"):
        return function(*(x.double() for x in tensors), **options)


def kl_div(student: Tensor, teacher: Tensor) -> Tensor:
    """What published.kd averages: T^2 KL of each row."""
    log_q = F.log_softmax(student / TEMPERATURE, -1)
    p = F.softmax(teacher / TEMPERATURE, -1)
    return F.kl_div(log_q, p, reduction="none").sum(-1) * TEMPERATURE**2


def kl() -> list[dict]:
    """The student is the teacher moved by `spread` times normal numbers."""
    teacher, moved, found = 2 * normal(*LOGITS, seed=0), normal(*LOGITS, seed=1), []
    for spread in SPREADS:
        student = teacher + spread * moved
        half = student.bfloat16(), teacher.bfloat16()
        rows = kl_div(student, teacher)
        found.append(
            {
                "spread": spread,
                "exact": exact(kdops.kd_loss, student, teacher).item(),
                "published": published.kd(student, teacher, TEMPERATURE).item(),
                "negative": int((rows < 0).sum()),
                "kdops": kdops.kd_loss(student, teacher).item(),
                "published_half": published.kd(*half, TEMPERATURE).item(),
                "kdops_half": kdops.kd_loss(*half).item(),
                "exact_half": exact(kdops.kd_loss, *half).item(),
            }
        )
    return found


def near_pair(gap: float) -> Tensor:
    """Features of which sample 1 is sample 0 moved by `gap` times normal numbers."""
    x = normal(*FEATURES, seed=2)
    x[1] = x[0] + gap * normal(FEATURES[1], seed=3)
    return x


def gradient(function: Callable, student: Tensor, teacher: Tensor) -> Tensor:
    return measure.result(function, student.detach().requires_grad_(), teacher, {})[1].double()


def angle() -> list[dict]:
    teacher, found = normal(*FEATURES, seed=4), []
    for gap in GAPS:
        x = near_pair(gap)
        with kdops.backend("reference"):
            slope = gradient(kdops.rkd_angle_loss, x.double(), teacher.double())
        theirs = gradient(published.rkd_angle, x, teacher)
        ours = gradient(kdops.rkd_angle_loss, x, teacher)
        errors = ((y - slope).norm() / slope.norm() for y in (theirs, ours))
        norms = (y.norm() for y in (slope, theirs, ours))
        found.append(row(gap, *norms, *errors))
    return found


def distance() -> list[dict]:
    found = []
    for gap in GAPS[:-1]:
        x = near_pair(gap)
        value = exact(kdops.pairwise_distance, x)[0, 1]
        both = published.distances(x)[0, 1], kdops.pairwise_distance(x)[0, 1]
        errors = ((y.double() / value - 1).abs() for y in both)
        found.append(row(gap, value, *both, *errors))
    return found


def row(gap: float, *figures: Tensor) -> dict:
    values = (float(x) for x in figures)
    return dict(zip(COLUMNS["distance"], (gap, *values), strict=True))


def measured() -> dict[str, list[dict]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {"kl": kl(), "angle": angle(), "distance": distance()}
    torch.set_num_threads(threads)
    return found


def table(story: str, rows: list[dict]) -> str:
    columns = COLUMNS[story]
    cells = [[f"{each[key]:.3g}" for key in columns] for each in rows]
    return markdown([list(columns.values()), *cells])


def _lines(axes, story: str, rows: list[dict], half: bool) -> None:
    """Lines over the gap; what is below 0 is hollow, at its size."""
    from kdops.results.pictures import BLUE, GREY, ORANGE

    across = "spread" if story == "kl" else "gap"
    rows = [each for each in rows if each[across] > 0]
    colors = {"exact": GREY, "published": BLUE, "kdops": ORANGE}
    for name, color in colors.items():
        key = f"{name}_half" if half else name
        points = [(each[across], each[key]) for each in rows]
        style = {"linewidth": 4, "alpha": 0.4} if name == "exact" else {"linewidth": 1.4}
        label = "F.kl_div" if (story, name) == ("kl", "published") else NAMES[name]
        sizes = [(x, abs(y)) for x, y in points]
        axes.plot(*zip(*sizes, strict=True), color=color, label=label, **style)
        for below, face in ((False, color), (True, "white")):
            marked = [(x, abs(y)) for x, y in points if (y < 0) == below and name != "exact"]
            if marked:
                of_sign = f"{label}, below 0" if below else None
                axes.plot(
                    *zip(*marked, strict=True),
                    "o",
                    color=color,
                    markerfacecolor=face,
                    label=of_sign,
                )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    axes.set_xlabel("student - teacher" if story == "kl" else "gap between two samples")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _duplicate(axes, rows: list[dict]) -> None:
    """The exact duplicate has no place on a logarithmic axis: bars of their own."""
    from kdops.results.pictures import BLUE, GREY, ORANGE

    [last] = [each for each in rows if each["gap"] == 0]
    values = [last[name] for name in NAMES]
    axes.bar(list(NAMES.values()), values, color=[GREY, BLUE, ORANGE])
    for place, value in enumerate(values):
        axes.annotate(f"{value:.2g}", (place, value), ha="center", va="bottom")
    axes.set_yscale("log")
    axes.set_xlabel("one sample twice")
    axes.spines[["top", "right"]].set_visible(False)


def draw(found: dict[str, list[dict]], folder: Path) -> list[Path]:
    """Write a picture a story; returns their files."""
    from kdops.results.pictures import new_figure, save

    paths = []
    for story, rows in found.items():
        panels = 1 if story == "distance" else 2
        figure, axes = new_figure(1, panels, (4.8 * panels, 3.6))
        first, *rest = axes.flat if panels == 2 else [axes]
        _lines(first, story, rows, half=False)
        if story == "kl":
            first.set_title("float32 logits", fontsize="small")
            _lines(rest[0], story, rows, half=True)
            rest[0].set_title("bfloat16 logits", fontsize="small")
        elif story == "angle":
            _duplicate(rest[0], rows)
        figure.suptitle(TITLES[story], fontsize="medium")
        paths.append(folder / f"numerics-{story}.svg")
        save(figure, paths[-1])
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the pictures too")
    options, found = parser.parse_args(), measured()
    for story, rows in found.items():
        print(f"{TITLES[story]}\n\n{table(story, rows)}\n")
    if options.out:
        print("\n".join(map(str, draw(found, options.out))))


if __name__ == "__main__":
    main()
