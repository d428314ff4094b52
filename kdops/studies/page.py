"""A page of docs out of a template and its experiments' results.

The template is Markdown with `{{experiment NAME}}` for a table and a picture, `{{gain NAME: ARM /
BASELINE}}` for one comparison in words, `{{measured NAME}}` for another table, and `{{data}}`,
`{{labels}}`, `{{seeds}}`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..results.compare import Entry, same_protocol
from ..results.pictures import plot_gains
from ..results.statistics import Gain, gains_of_pairs
from ..results.tables import Table, probability, seeds_text, spread
from ..training.data import FEW

MARK = re.compile(r"\{\{(.+?)\}\}", re.DOTALL)
PICTURES = "pictures"
Entries = Mapping[str, Entry]


@dataclass(frozen=True)
class Experiment:
    """Arms and what each is compared with; all comparisons are corrected together."""

    title: str
    pairs: tuple[tuple[str, str], ...]

    def gains(self, entries: Entries) -> dict[tuple[str, str], Gain]:
        for arm, baseline in self.pairs:
            same_protocol([entries[baseline], entries[arm]])
        values = {pair: tuple(entries[name].test for name in pair) for pair in self.pairs}
        return gains_of_pairs(values)

    def table(self, entries: Entries) -> Table:
        rows = []
        for (arm, baseline), gain in self.gains(entries).items():
            row = [f"`{arm}`", spread(entries[arm].test), f"`{baseline}`"]
            row += [spread(entries[baseline].test), spread(gain.points, "+")]
            row += [f"{gain.wins}/{len(gain.points)}", probability(gain.p_holm), gain.verdict]
            rows.append(row)
        columns = ["arm", "test %", "against", "test %", "gain", "wins", "Holm p", "verdict"]
        return Table(self.title, columns, rows)

    def plot(self, path: Path, entries: Entries) -> None:
        gains = {f"{arm} against {base}": x for (arm, base), x in self.gains(entries).items()}
        first = entries[self.pairs[0][0]]
        subtitle = f"{first.setting['data']}, {seeds_text(len(first.seeds))}: dot = seed"
        plot_gains(path, gains, self.title, subtitle)


def in_words(gain: Gain) -> str:
    """No more than the table says."""
    return f"{spread(gain.points, '+')} points, {gain.verdict}"


class Page:
    """A page's text: the template's marks replaced.

    Args:
        name: of the page, in its pictures' file names.
        template: the Markdown.
        experiments: by the names that the marks have.
        measured: other tables, by name.
    """

    def __init__(
        self,
        name: str,
        template: str,
        experiments: Mapping[str, Experiment],
        measured: Mapping[str, Table] | None = None,
    ):
        self.name, self.template, self.experiments = name, template, experiments
        self.measured = measured or {}

    def picture(self, experiment: str) -> str:
        return f"{PICTURES}/{self.name}-{experiment}.svg"

    def text(self, entries: Entries) -> str:
        """The page.

        Raises:
            ValueError: for a mark that is none, or of a comparison that is not there.
        """
        return MARK.sub(lambda mark: self._replaced(mark[1], entries), self.template)

    def _replaced(self, mark: str, entries: Entries) -> str:
        first, (kind, _, rest) = next(iter(entries.values())), " ".join(mark.split()).partition(" ")
        name, _, pair = rest.partition(": ")
        arm, _, baseline = pair.partition(" / ")
        if kind == "data":
            return first.setting["data"]
        if kind == "seeds":
            return seeds_text(len(first.seeds))
        if kind == "labels":
            return str(first.setting["labels"] or FEW[first.setting["data"]])
        if kind == "measured" and name in self.measured:
            return self.measured[name].grid()
        experiment = self.experiments.get(name)
        if kind == "experiment" and experiment:
            title = experiment.title
            return f"{experiment.table(entries).grid()}\n\n![{title}]({self.picture(name)})"
        if kind == "gain" and experiment and (arm, baseline) in experiment.pairs:
            return in_words(experiment.gains(entries)[arm, baseline])
        raise ValueError(f"{self.name}: the template's mark {mark!r} says nothing that is there")

    def write(self, docs: Path, entries: Entries) -> None:
        """The text and its pictures."""
        text = self.text(entries)
        docs.mkdir(parents=True, exist_ok=True)
        (docs / f"{self.name}.md").write_text(text, encoding="utf-8")
        for name, experiment in self.experiments.items():
            experiment.plot(docs / self.picture(name), entries)
