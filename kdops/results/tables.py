"""A table, once as rows: printed by rich, and written as Markdown."""

import math
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from .statistics import mean_sd


@dataclass(frozen=True)
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def print(self, console: Console) -> None:
        table = RichTable(box=SIMPLE_HEAD, padding=0, pad_edge=False)
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        console.print(f"\n{self.title}", style="bold")
        console.print(table)
        for note in self.notes:
            console.print(f"- {note}")

    def grid(self) -> str:
        """The rows alone, as Markdown."""
        lines = [
            [c.replace("\n", " ") for c in self.columns],
            ["---"] + ["---:"] * (len(self.columns) - 1),
            *self.rows,
        ]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def markdown(self) -> str:
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"## {self.title}\n\n{self.grid()}\n\n{notes}"


def spread(values: list[float], sign: str = "") -> str:
    mean, sd = mean_sd(values)
    return f"{mean:{sign}.2f}" if math.isnan(sd) else f"{mean:{sign}.2f} ± {sd:.2f}"


def probability(p: float) -> str:
    return "-" if math.isnan(p) else f"{p:.3f}"


def seeds_text(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
