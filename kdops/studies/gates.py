"""What ONE's gate has learned: how uneven its weights are, and what the ensemble owes to them."""

from pathlib import Path

import torch
from torch import Tensor

from ..methods.online import ONE
from ..peers import Branched
from ..recipes import reading
from ..results.tables import Table, spread
from ..training.data import Split
from ..training.loop import Settings, accuracy, fit, make_fabric, predict
from ..training.nets import layers_of, make_net
from ..training.setting import Setting
from .figures import few_batches, kept_figures

STEPS = 600


def trained(split: Split, data: str, labels: int, steps: int, seed: int) -> tuple[ONE, Branched]:
    torch.manual_seed(seed)
    method = ONE(**reading.read("one").phases[-1].options)
    net = make_net("student", split.classes, split.channels)
    group = method.assemble(lambda i: net, layers_of(net, method.layers, {}))
    batches = few_batches(split, data, labels, seed)
    fit(make_fabric("cpu"), group, None, method, batches, Settings(steps))
    return method.eval(), group.eval()


@torch.no_grad()
def gate_weights(method: ONE, group: Branched, images: Tensor) -> Tensor:
    return torch.cat([method.gate(group(rows)) for rows in images.split(1000)])


def measure(split: Split, data: str, labels: int, steps: int, seeds: int) -> dict[str, list[float]]:
    """Figures by name; those of the seeds in a list."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        method, group = trained(split, data, labels, steps, seed)
        weights = gate_weights(method, group, split.test.images)
        largest = weights.amax(1)
        logs = [predict(group.peer(i), split.test) for i in range(group.count)]
        ensemble = predict(method.ensemble(group), split.test)
        figures = {
            "even rows": 100 * (largest == weights.amin(1)).double().mean().item(),
            "low": largest.quantile(0.05).item(),
            "high": largest.quantile(0.95).item(),
            "gated": accuracy(ensemble, split.test.labels),
            "even": accuracy(torch.stack(logs).mean(0), split.test.labels),
            "branch": accuracy(logs[group.deployed], split.test.labels),
        }
        for name, figure in figures.items():
            found.setdefault(name, []).append(figure)
    return found


def study(out: Path, split: Split, setting: Setting, seeds: int) -> dict:
    """What `measure` finds, kept in OUT/gates.json."""
    return kept_figures(out / "gates.json", measure, split, setting, STEPS, seeds)


def table(found: dict) -> Table:
    columns = [
        "even rows, %",
        "range",
        "gated ensemble, test %",
        "even ensemble",
        "deployed branch",
    ]
    span = f"{sum(found['low']) / len(found['low']):.2f} to "
    span += f"{sum(found['high']) / len(found['high']):.2f}"
    row = [spread(found["even rows"]), span]
    row += [spread(found[name]) for name in ("gated", "even", "branch")]
    return Table("ONE's gate after training", columns, [row])
