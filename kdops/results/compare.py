"""`python -m kdops compare`: what recipes gained over the first one, paired by seed."""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from .pictures import plot_gains
from .statistics import LEVEL, Gain, paired_gains
from .tables import Table, probability, seeds_text, spread


@dataclass(frozen=True)
class Entry:
    """The runs of one folder."""

    name: str
    setting: dict
    results: list[dict]  # in the order of the seeds

    @property
    def test(self) -> list[float]:
        return [result["test"] for result in self.results]

    @property
    def seeds(self) -> list[int]:
        return [result["seed"] for result in self.results]


def read(folder: Path) -> Entry:
    """The finished runs of a folder that `distill` wrote.

    Raises:
        ValueError: for a folder without any.
    """
    files = sorted(folder.glob("seed*/result.json"), key=lambda path: int(path.parent.name[4:]))
    if not (folder / "config.json").is_file() or not files:
        raise ValueError(f"{folder} holds no finished run of distill")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    results = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    return Entry(folder.name, config["setting"], results)


def same_protocol(entries: list[Entry]) -> None:
    """Raise ValueError where runs cannot be paired: other seeds, data, labels or student."""
    first = entries[0]
    for entry in entries[1:]:
        for key in ("data", "labels", "student", "augment", "missing"):
            if entry.setting[key] != first.setting[key]:
                raise ValueError(
                    f"{entry.name} and {first.name} cannot be compared: {key} is "
                    f"{entry.setting[key]!r} and {first.setting[key]!r}"
                )
        if entry.seeds != first.seeds:
            raise ValueError(
                f"{entry.name} and {first.name} cannot be paired: seeds {entry.seeds} and "
                f"{first.seeds}"
            )


def gains_of(entries: list[Entry]) -> dict[str, Gain]:
    """Over the first entry."""
    return paired_gains(entries[0].test, {entry.name: entry.test for entry in entries[1:]})


def table(entries: list[Entry], title: str | None = None, notes: list[str] | None = None) -> Table:
    first, gains, rows = entries[0], gains_of(entries), []
    for entry in entries:
        teacher = [result["teacher"] for result in entry.results if "teacher" in result]
        seconds = [result["seconds"] for result in entry.results]
        row = [entry.name, str(teacher[0]["saw"]) if teacher else "-"]
        row += [str(entry.results[0]["steps"]), spread(entry.test)]
        if gain := gains.get(entry.name):
            wins = f"{gain.wins}/{len(gain.points)}"
            row += [spread(gain.points, "+"), wins, probability(gain.p_holm), gain.verdict]
        else:
            row += [""] * 4
        rows.append([*row, f"{sum(seconds) / len(seconds):.1f}"])
    columns = [
        "recipe",
        "teacher\nsaw",
        "steps",
        "test %",
        "gain",
        "wins",
        "Holm\np",
        "verdict",
        "s",
    ]
    return Table(title or _title(first), columns, rows, notes or _notes(first, gains))


def _title(first: Entry) -> str:
    seeds = seeds_text(len(first.seeds))
    return f"Gain over {first.name} ({first.setting['data']}, {seeds}, mean ± sd)"


def _notes(first: Entry, gains: dict[str, Gain]) -> list[str]:
    if len(first.seeds) < 2:
        return ["One seed: no spread, no test."]
    return [
        f"Verdict: two-sided paired t test over {len(first.seeds)} seeds, Holm's correction for "
        f"{len(gains)} comparisons, level {LEVEL}. No ranking among the recipes is claimed."
    ]


def plain_gains(gains: dict[str, Gain]) -> dict:
    """For JSON: nan, of one seed, as None."""

    def plain(value):
        return None if isinstance(value, float) and math.isnan(value) else value

    return {
        name: {key: plain(value) for key, value in {**vars(g), "verdict": g.verdict}.items()}
        for name, g in gains.items()
    }


def compare(folders: list[Path], out: Path, console: Console) -> None:
    entries = [read(folder) for folder in folders]
    same_protocol(entries)
    gains, found = gains_of(entries), table(entries)
    found.print(console)
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.md").write_text(found.markdown(), encoding="utf-8")
    content = json.dumps(plain_gains(gains), indent=1) + "\n"
    (out / "compare.json").write_text(content, encoding="utf-8")
    if gains:
        plot_gains(out / "gains.png", gains, found.title)
    console.print(f"Written: {out}/compare.md, compare.json, gains.png")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdops compare", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="of distill --out")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: above the first")
    options = parser.parse_args(argv)
    console = Console(highlight=False, markup=False)
    try:
        compare(options.folders, options.out or options.folders[0].parent, console)
    except ValueError as error:
        console.print(f"compare: {error}")
        return 2
    return 0
