"""What a fork's gradient rescaling does under SGD, and what a larger learning rate does instead."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..peers import HeadTree
from ..results.statistics import gains_of_pairs
from ..results.tables import Table, spread
from ..training.data import Split
from ..training.loop import accuracy, predict
from ..training.nets import make_net
from ..training.setting import Setting
from .figures import few_batches, kept_figures

HEADS, AT, FANOUT = 4, ("middle", "embedding"), (2, 2)
PROBES, STEPS = 50, 600
RATES = {"SGD": 0.05, "Adam": 0.01}


class Variant(NamedTuple):
    """How the heads' losses are put together, and what they are compared with."""

    factor: float = 1.0  # of their sum
    rate: float = 1.0  # times the optimizer's
    rescale: bool = False
    optimizer: str = "SGD"
    against: str = "sum"


VARIANTS = {
    "sum": Variant(),
    "sum / H": Variant(1 / HEADS),
    "sum / H, rate * H": Variant(1 / HEADS, float(HEADS)),
    "rescaled forks": Variant(rescale=True),
    "Adam, sum": Variant(optimizer="Adam", against="Adam, sum"),
    "Adam, rescaled forks": Variant(rescale=True, optimizer="Adam", against="Adam, sum"),
}


def tree(split: Split, seed: int, rescale: bool) -> HeadTree:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make_net("student", split.classes, split.channels)
        return HeadTree.of(net, AT, FANOUT, rescale=rescale)


def drawn(split: Split, data: str, labels: int, steps: int, seed: int) -> Iterator:
    return few_batches(split, data, labels, seed).steps(0, steps)


def loss_of(group: HeadTree, images: Tensor, labels: Tensor, factor: float) -> Tensor:
    """Labels alone: the soft targets' gradients meet at the fork in the same way."""
    return factor * sum(F.cross_entropy(logits, labels) for logits in group(images).logits)


def parts(group: HeadTree) -> dict[str, list[nn.Parameter]]:
    return {
        "stem": list(group.levels[0].parameters()),
        "head": list(group.levels[-1][0].parameters()),
    }


def gradient_scales(group: HeadTree, batches: Iterator, factor: float) -> dict[str, float]:
    """Of stem and head: the length of the mean gradient, and the variance about it."""
    sums = {name: [0.0, 0.0] for name in parts(group)}
    count = 0
    for images, labels in batches:
        group.zero_grad()
        loss_of(group, images, labels, factor).backward()
        count += 1
        for name, parameters in parts(group).items():
            gradient = torch.cat([x.grad.flatten() for x in parameters]).double()
            sums[name][0] = sums[name][0] + gradient
            sums[name][1] += gradient.square().sum().item()
    found = {}
    for name, (total, square) in sums.items():
        mean = (total / count).norm().item()
        found[f"{name} length"] = mean
        found[f"{name} variance"] = (square - count * mean**2) / max(1, count - 1)
    return found


def train(group: HeadTree, batches: Iterator, variant: Variant) -> None:
    rate = RATES[variant.optimizer] * variant.rate
    if variant.optimizer == "SGD":
        optimizer = torch.optim.SGD(group.parameters(), rate, momentum=0.9)
    else:
        optimizer = torch.optim.Adam(group.parameters(), rate)
    group.train()
    for images, labels in batches:
        optimizer.zero_grad()
        loss_of(group, images, labels, variant.factor).backward()
        optimizer.step()


def measure(split: Split, data: str, labels: int, steps: int, seeds: int) -> dict:
    """All figures, by variant; those of the seeds in a list."""
    found: dict = {name: {} for name in VARIANTS}
    for seed in range(seeds):
        trained = {}
        for name, variant in VARIANTS.items():
            group = tree(split, seed, variant.rescale)
            probes = drawn(split, data, labels, PROBES, seed + 1000)
            figures = gradient_scales(group, probes, variant.factor)
            group = tree(split, seed, variant.rescale)  # the probes have moved its batch norms
            train(group, drawn(split, data, labels, steps, seed), variant)
            figures["test"] = accuracy(predict(group.model, split.test), split.test.labels)
            trained[name] = torch.cat([x.detach().flatten() for x in group.parameters()])
            moved = trained[name] - trained[variant.against]
            figures["distance"] = (moved.square().mean().sqrt()).item()
            for key, value in figures.items():
                found[name].setdefault(key, []).append(value)
    return found


def study(out: Path, split: Split, setting: Setting, seeds: int) -> dict:
    """What `measure` finds, kept in OUT/forks.json."""
    return kept_figures(out / "forks.json", measure, split, setting, STEPS, seeds)


COLUMNS = ("stem length", "stem variance", "head length", "head variance")


def gradient_table(found: dict) -> Table:
    """Relative to the plain sum of the heads' losses."""
    plain = found["sum"]
    rows = []
    for name, figures in found.items():
        if VARIANTS[name].against == "sum":
            ratios = [mean_ratio(figures[key], plain[key]) for key in COLUMNS]
            rows.append([name, *(f"{ratio:.4f}" for ratio in ratios)])
    return Table("Gradients at the start, over the sum's", ["losses", *COLUMNS], rows)


def mean_ratio(values: list[float], others: list[float]) -> float:
    return sum(a / b for a, b in zip(values, others, strict=True)) / len(values)


def training_table(found: dict) -> Table:
    pairs = {name: (name, x.against) for name, x in VARIANTS.items() if name != x.against}
    tests = {pair: tuple(found[each]["test"] for each in pair) for pair in pairs.values()}
    gains = gains_of_pairs(tests)
    rows = []
    for name, figures in found.items():
        gain = gains.get(pairs.get(name))
        told = ["", "", ""]
        if gain:
            told = [spread(gain.points, "+"), gain.verdict, f"{max(figures['distance']):.1e}"]
        rows.append([name, spread(figures["test"]), *told])
    columns = ["losses", "test %", "gain over the sum", "verdict", "weights' distance from it"]
    return Table("Trained with each", columns, rows)
