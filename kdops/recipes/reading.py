"""Recipes from YAML: read safely, and each mistake named with its key and line."""

import difflib
from importlib import resources
from pathlib import Path

import yaml
from pydantic import ValidationError

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
    return parse(path.read_text(encoding="utf-8"), str(path))


def parse(text: str, name: str = "recipe") -> Recipe:
    """A recipe from YAML text; `name` is for the error messages."""
    try:
        root = _compose(text)
        _refuse(root)
        loader = yaml.SafeLoader("")
        content = loader.construct_document(root) if root else {}
    except yaml.MarkedYAMLError as error:
        raise RecipeError(f"{name}, line {error.problem_mark.line + 1}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: {error}") from error
    try:
        recipe = Recipe.model_validate(content)
        for number, phase in enumerate(recipe.phases):
            _check_phase(phase, ("phases", number))
    except _PlaceError as error:
        raise RecipeError(f"{name}, line {_line(root, error.place)}: {error}") from error
    except ValidationError as error:
        raise RecipeError("\n".join(_messages(error, root, name))) from error
    return recipe


class _PlaceError(ValueError):
    def __init__(self, place: tuple, text: str):
        super().__init__(f"{'.'.join(map(str, place))}: {text}")
        self.place = place


def _compose(text: str) -> yaml.Node | None:
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases are not allowed", problem_mark=event.start_mark
            )
    return yaml.compose(text, yaml.SafeLoader)


def _refuse(node: yaml.Node | None) -> None:
    """Keys that stand twice, of which YAML would keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
            _refuse(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse(item)


def _check_phase(phase: Phase, place: tuple) -> None:
    try:
        method = method_class(phase.method)
    except ValueError as error:
        raise _PlaceError((*place, "method"), str(error)) from error
    try:
        make_method(phase.method, phase.options)
    except ValidationError as error:
        first = error.errors()[0]
        place = (*place, "options", *first["loc"][:1])
        raise _PlaceError(place, _text(first, options_of(method))) from error
    except (ValueError, TypeError) as error:
        raise _PlaceError((*place, "options"), str(error)) from error


def _messages(error: ValidationError, root: yaml.Node, name: str):
    for found in error.errors():
        place = found["loc"]
        yield f"{name}, line {_line(root, place)}: {'.'.join(map(str, place))}: {_text(found)}"


def _text(found: dict, model=None) -> str:
    if found["type"] != "extra_forbidden":
        got = "" if found["type"] == "missing" else f", got {found['input']!r}"
        return f"{found['msg'][0].lower()}{found['msg'][1:]}{got}"
    models = [model] if model else [Recipe, Phase, Sampler, Specialists]
    keys = [key for each in models for key in each.model_fields]
    near = difflib.get_close_matches(str(found["loc"][-1]), keys)
    return "no such key" + (
        f", near: {', '.join(near)}" if near else f"; there are {', '.join(keys)}"
    )


def _line(node: yaml.Node | None, place: tuple) -> int:
    """The line of a value, or of the nearest thing around one that is missing."""
    line = node.start_mark.line + 1 if node else 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(step)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            found = [(item, item) for item in node.value[step : step + 1]]
        else:
            found = []
        if not found:
            break
        key, node = found[0]
        line = key.start_mark.line + 1
    return line
