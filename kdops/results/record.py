"""What a study's runs showed as one small JSON file, from which its page can be written again."""

import json
from pathlib import Path

from .compare import Entry

KEPT = ("seed", "steps", "seconds", "val", "test", "per_class", "biased", "teacher", "specialists")


def _short(value):
    """Two digits are what a page shows of a per cent, four are kept."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    return value


def save(path: Path, entries: dict[str, Entry]) -> None:
    """One line a run, and one environment, that of the last run."""
    last = next(reversed(entries.values())).results[-1]
    lines = [
        json.dumps({"name": name, "setting": entry.setting, "results": _kept(entry.results)})
        for name, entry in entries.items()
    ]
    body = ",\n".join(lines)
    environment = json.dumps(last["environment"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'{{"environment": {environment},\n"entries": [\n{body}\n]}}\n', encoding="utf-8"
    )


def _kept(results: list[dict]) -> list[dict]:
    return [{key: _short(result[key]) for key in KEPT if key in result} for result in results]


def load(path: Path) -> tuple[dict[str, Entry], dict]:
    """The entries by name, and the environment they ran in."""
    content = json.loads(path.read_text(encoding="utf-8"))
    entries = [Entry(each["name"], each["setting"], each["results"]) for each in content["entries"]]
    return {entry.name: entry for entry in entries}, content["environment"]
