"""Recipes side by side under one protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from ..recipes import reading
from ..recipes.schema import Phase, Recipe
from ..results.compare import Entry, read
from ..training.command import distill
from ..training.data import Split
from ..training.setting import Setting


@dataclass(frozen=True)
class Arm:
    """A recipe with what differs for it from the study's setting."""

    recipe: str
    setting: dict = field(default_factory=dict)
    changes: dict = field(default_factory=dict)  # of the last phase's options
    phase: dict = field(default_factory=dict)  # what is other in the last phase, its method say
    nets: dict = field(default_factory=dict)  # in place of the recipe's


def recipe_of(arm: Arm) -> Recipe:
    """The arm's recipe, with its changes."""
    recipe = reading.read(arm.recipe)
    last = recipe.phases[-1].model_dump() | arm.phase
    last["options"] = {**last["options"], **arm.changes}
    changed = {"phases": [*recipe.phases[:-1], Phase(**last)], "nets": {**recipe.nets, **arm.nets}}
    return recipe.model_copy(update=changed)


def run(
    arms: Mapping[str, Arm],
    setting: Setting,
    seeds: range,
    out: Path,
    split: Split,
    console: Console | None = None,
) -> dict[str, Entry]:
    """Train every arm's seeds that are not trained yet; an arm's folder is OUT/name."""
    for name, arm in arms.items():
        distill(
            recipe_of(arm),
            replace(setting, **arm.setting),
            seeds,
            out / name,
            split=split,
            teachers=out / "teachers",
            console=console,
            label=name,
        )
    return {name: read(out / name) for name in arms}
