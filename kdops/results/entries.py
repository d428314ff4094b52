"""Entries in one small file, a line each, from which pages are written without training."""

import json
from pathlib import Path

from .compare import Entry

# of a result
KEPT = (
    "seed",
    "steps",
    "seconds",
    "val",
    "test",
    "per_class",
    "biased",
    "teacher",
    "specialists",
    "peers",
)
DIGITS = 4  # of a per cent


def write_entries(
    path: Path, entries: dict[str, Entry], environment: dict, measured: dict | None = None
) -> None:
    """Write what pages need of entries; a setting's common part stands once.

    Args:
        path: of the file; its folder is made.
        entries: by name.
        environment: versions and machine of the runs.
        measured: figures besides the entries, by name.
    """
    settings = [entry.setting for entry in entries.values()]
    common = {k: v for k, v in settings[0].items() if all(other[k] == v for other in settings)}
    lines = [f"{json.dumps(name)}: {_line(entry, common)}" for name, entry in entries.items()]
    head = f'"environment": {json.dumps(environment)},\n"setting": {json.dumps(common)}'
    for name, figures in (measured or {}).items():
        head += f',\n"{name}": {json.dumps(figures)}'
    path.parent.mkdir(parents=True, exist_ok=True)
    arms = ",\n".join(lines)
    path.write_text(f'{{\n{head},\n"arms": {{\n{arms}\n}}\n}}\n', encoding="utf-8")


def _line(entry: Entry, common: dict) -> str:
    setting = {key: value for key, value in entry.setting.items() if key not in common}
    kept = [{key: x[key] for key in KEPT if key in x} for x in entry.results]
    return json.dumps({"setting": setting, "results": _rounded(kept)})


def _rounded(x):
    if isinstance(x, dict):
        return {key: _rounded(value) for key, value in x.items()}
    if isinstance(x, list):
        return [_rounded(value) for value in x]
    return round(x, DIGITS) if isinstance(x, float) else x


def read_entries(path: Path) -> dict[str, Entry]:
    """What `write_entries` wrote, the environment left out.

    Raises:
        ValueError: for a file that is not there or not its.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Entry(name, {**content["setting"], **arm["setting"]}, arm["results"])
            for name, arm in content["arms"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no results of a study: {error!r}") from error


def read_environment(path: Path) -> dict:
    """Versions and machine of the runs that `write_entries` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))["environment"]


def read_measured(path: Path, name: str) -> dict:
    """Figures besides the entries that `write_entries` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))[name]


def keep(results: Path, docs: Path) -> None:
    """A copy of a study's file as DOCS/results/NAME.json."""
    kept = docs / "results" / results.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(results.read_text(encoding="utf-8"), encoding="utf-8")
