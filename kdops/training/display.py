"""What runs now: a live line per run, which stays as one printed line when the run is done."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

ProgressCallback = Callable[[int, float], None]  # (steps done, validation accuracy)
LABEL = "{:<34} seed {:<2}"


class Display:
    def __init__(self, console: Console, runs: int):
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
            transient=True,
        )
        self.done, self.runs = 0, runs
        self.all = self.progress.add_task("all runs", total=runs, note=f"0 of {runs}")

    def __enter__(self) -> "Display":
        self.progress.start()
        return self

    def __exit__(self, *exception) -> None:
        self.progress.stop()

    @contextmanager
    def run(self, name: str, seed: int, steps: int) -> Iterator[ProgressCallback]:
        """Yields the callback (steps done, validation accuracy) that moves the live line."""
        label, note, start = LABEL.format(name, seed), "val    - ", time.perf_counter()
        task = self.progress.add_task(label, total=steps, note=note)

        def update(step: int, val: float) -> None:
            nonlocal note
            note = f"val {val:5.1f}"
            self.progress.update(task, completed=step, note=note)

        yield update
        self.console.print(f"{label}  {note}  {time.perf_counter() - start:5.1f} s")
        self.progress.remove_task(task)
        self.done += 1
        self.progress.update(self.all, completed=self.done, note=f"{self.done} of {self.runs}")
