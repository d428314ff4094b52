"""Measured figures, kept in a file with the protocol that they were measured under."""

import json
from collections.abc import Callable
from pathlib import Path

from ..training.data import FEW, Split
from ..training.records import write_json
from ..training.setting import Setting


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
