"""Recipes from YAML: read safely, and each mistake named with its key and line."""

import difflib
import re
import reprlib
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from ..methods import Labels, Method
from ..methods.online import Online
from .plain_yaml import PlainYamlError, line_of, load
from .schema import (
    Phase,
    Recipe,
    Sampler,
    Specialists,
    make_method,
    method_class,
    options_of,
)

LARGEST = 1 << 20  # bytes of a recipe
MODELS = {
    (): Recipe,
    ("phases",): Phase,
    ("phases", "sampler"): Sampler,
    ("specialists",): Specialists,
}


class RecipeError(ValueError):
    """A recipe that cannot be used; the text names file, line and key."""


def names() -> list[str]:
    """The recipes that come with kdops."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name[: -len(".yaml")] for file in files if file.name.endswith(".yaml"))


def read(recipe: str | Path) -> Recipe:
    """A recipe by its name, or from a file.

    Raises:
        RecipeError: for an unknown name, text that is not YAML, or a key or value that no recipe
        or method has; with the line, and the keys near to it.
    """
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        if str(recipe) not in names():
            near = difflib.get_close_matches(str(recipe), names()) or names()
            raise RecipeError(f"no recipe {str(recipe)!r}; there are {', '.join(near)}")
        path = Path(str(resources.files(__package__) / f"{recipe}.yaml"))
    if not path.is_file():
        raise RecipeError(f"{path}: no such file")
    if path.stat().st_size > LARGEST:
        raise RecipeError(f"{path}: a recipe is at most {LARGEST} bytes")
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: a recipe must be UTF-8, byte {error.start} is not") from error


def parse(text: str, name: str = "recipe") -> Recipe:
    """A recipe from YAML text; `name` is for the error messages."""
    try:
        root, content = load(text)
    except PlainYamlError as error:
        raise RecipeError(f"{name}, line {error.line}: {error}") from error
    try:
        recipe = Recipe.model_validate(content)
        _check_nets(recipe)
        for number, phase in enumerate(recipe.phases):
            _check_phase(phase, ("phases", number))
    except ValidationError as error:
        found = [(x["loc"], _text(x, _keys_at(x["loc"]))) for x in error.errors()]
    except _PlaceError as error:
        found = [(error.place, str(error))]
    else:
        return recipe
    raise RecipeError(
        "\n".join(
            f"{name}, line {line_of(root, place)}: "
            + (f"{'.'.join(map(str, place))}: " if place else "")
            + text
            for place, text in found
        )
    )


class _PlaceError(ValueError):
    def __init__(self, place: tuple, text: str):
        super().__init__(text)
        self.place = place


def _check_nets(recipe: Recipe) -> None:
    for net in recipe.nets:
        if net in ("student", "teacher"):
            raise _PlaceError(("nets", net), "is chosen by who runs the recipe, not by it")
    nets, seen = {"student", *recipe.nets}, set()
    for number, phase in enumerate(recipe.phases):
        place = ("phases", number)
        if phase.name in seen:
            raise _PlaceError((*place, "name"), f"{phase.name!r} is the name of another phase")
        seen.add(phase.name)
        if phase.net not in nets:
            raise _PlaceError((*place, "net"), f"no net {phase.net!r}; {_near(phase.net, nets)}")
        teachers = {"teacher", *nets} - {phase.net}
        if phase.teacher is not None and phase.teacher not in teachers:
            near = _near(phase.teacher, teachers)
            raise _PlaceError((*place, "teacher"), f"no teacher {phase.teacher!r}; {near}")


def _check_phase(phase: Phase, place: tuple) -> None:
    try:
        method = method_class(phase.method)
    except ValueError as error:
        raise _PlaceError((*place, "method"), str(error)) from error
    _check_teacher(phase, method, place)
    place = (*place, "options")
    try:
        make_method(phase.method, phase.options)
    except ValidationError as error:
        first = error.errors()[0]
        keys = _option_keys(method, first["loc"])
        raise _PlaceError(
            (*place, *_given(phase.options, first["loc"])), _text(first, keys)
        ) from error
    except (ValueError, TypeError) as error:
        named = re.match(r"\w+: (\w+)", str(error))  # 'function: argument must be ...'
        key = _given(phase.options, named.groups() if named else ())
        raise _PlaceError((*place, *key), str(error)) from error


def _check_teacher(phase: Phase, method: type[Method], place: tuple) -> None:
    online = issubclass(method, Online)
    if online and phase.teacher is not None:
        text = f"{phase.method}'s peers learn from each other: must be null"
        raise _PlaceError((*place, "teacher"), text)
    if phase.teacher is None and not online and method is not Labels:
        text = "only Labels and the online methods can be without a teacher"
        raise _PlaceError((*place, "teacher"), text)
    if phase.teacher is None and phase.sampler and phase.sampler.groups == "superclasses":
        text = "superclasses are of a teacher's embeddings, and there is none"
        raise _PlaceError((*place, "sampler"), text)


def _given(content, place: tuple) -> tuple:
    """As much of a place as is written in the recipe; pydantic goes on into types."""
    for depth, step in enumerate(place):
        try:
            content = content[step]
        except (LookupError, TypeError):
            return place[:depth]
    return place


def _keys_at(place: tuple) -> Iterable[str]:
    model = MODELS.get(tuple(step for step in place[:-1] if isinstance(step, str)))
    return model.model_fields if model else ()


def _option_keys(method: type[Method], place: tuple) -> Iterable[str]:
    options = options_of(method).model_fields
    if len(place) == 1:
        return options
    kind = options[place[0]].annotation
    return [x.name for part in get_args(kind) if is_dataclass(part) for x in fields(part)]


def _text(found: dict, keys: Iterable[str]) -> str:
    match found["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"no such key; {_near(str(found['loc'][-1]), keys)}"
        case "missing":
            return "must be given"
        case "value_error":
            return str(found["ctx"]["error"])
        case "model_type" | "dict_type":
            return f"must be a mapping, got {reprlib.repr(found['input'])}"
    text = f"{found['msg'][0].lower()}{found['msg'][1:]}"
    return f"{text}, got {reprlib.repr(found['input'])}"


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, cutoff=0.5)
    return f"near: {', '.join(near)}" if near else f"there are {', '.join(sorted(names))}"
