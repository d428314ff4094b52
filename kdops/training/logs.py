"""What a run tells: CSV and TensorBoard files, and a live line."""

import importlib.util
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch
from lightning_fabric.loggers import CSVLogger, TensorBoardLogger

from .display import Display

PACKAGES = ("kdops", "torch", "numpy", "scikit-learn", "lightning-fabric")


def environment() -> dict:
    """Versions and machine, for the record of a run."""
    return {
        **{name: _version(name) for name in PACKAGES},
        "torch": str(torch.__version__),  # with its build, which a package's version may leave out
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


class Logs:
    """A phase's metrics as FOLDER/logs/PHASE/metrics.csv, and for TensorBoard where it is there.

    A phase that goes on from a checkpoint is told its earlier rows again, so the files are whole.
    """

    def __init__(self, folder: Path, phase: str, active: bool = True):
        self.loggers = []
        if active:
            place = folder / "logs" / phase
            for old in place.glob("*"):
                old.unlink()
            self.loggers.append(CSVLogger(folder / "logs", phase, version=""))
            if importlib.util.find_spec("tensorboard"):
                self.loggers.append(TensorBoardLogger(folder / "logs", phase, version=""))

    def __enter__(self) -> "Logs":
        return self

    def row(self, row: dict) -> None:
        for logger in self.loggers:
            logger.log_metrics({key: row[key] for key in row if key != "step"}, row["step"])
            logger.save()

    def __exit__(self, *exception) -> None:
        for logger in self.loggers:
            logger.finalize("success")


class Report:
    """Live lines for the phases, through a display; silent without one."""

    def __init__(self, title: str, display: Display | None = None):
        self.title, self.display = title, display

    @contextmanager
    def phase(self, name: str, seed: int, steps: int) -> Iterator[Callable[[dict], None]]:
        if self.display is None:
            yield lambda row: None
            return
        with self.display.run(f"{self.title}: {name}", seed, steps) as update:
            yield lambda row: update(row["step"], row.get("val", float("nan")))
