"""Measured figures: the batches that they are measured on, and the file that keeps them."""

import json
from collections.abc import Callable
from pathlib import Path

from ..training.batches import Batches, UniformBatchSampler
from ..training.data import FEW, REACH, Split, few
from ..training.records import write_json
from ..training.setting import Setting

BATCH = 64


def few_batches(split: Split, data: str, labels: int, seed: int) -> Batches:
    """Of as many labelled images as a student sees, shifted, the same for a seed."""
    part = few(split.pool, labels, seed)
    sampler = UniformBatchSampler(len(part), BATCH, seed)
    return Batches(part, sampler, reach=REACH[data], seed=seed)


def kept_figures(
    path: Path, measure: Callable, split: Split, setting: Setting, steps: int, seeds: int
) -> dict:
    """What the file has of this protocol, or what is measured now and written there.

    Args:
        path: of the file.
        measure: called as measure(split, data=, labels=, steps=, seeds=).
        split, setting, seeds: what it is measured on.
        steps: where the setting names none.
    """
    protocol = {
        "data": setting.data,
        "labels": setting.labels or FEW[setting.data],
        "steps": setting.steps or steps,
        "seeds": seeds,
    }
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["protocol"] == protocol:
            return content["found"]
    found = measure(split, **protocol)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"protocol": protocol, "found": found})
    return found
