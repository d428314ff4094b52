"""Where and with what the figures were taken: the processor, never the host's name or a path."""

import datetime
import platform
import re
import subprocess
from pathlib import Path

import torch

import kdops
from kdops import _native

THREADS = 1


def processor() -> str:
    info = Path("/proc/cpuinfo")
    found = info.exists() and re.search(r"model name\s*:\s*(.+)", info.read_text())
    return found.group(1).strip() if found else platform.machine()


def slug() -> str:
    name = re.sub(r"\((r|tm)\)|\b(cpu|processor)\b", "", processor().lower())
    return re.sub(r"[^a-z0-9]+", "-", f"{name} {THREADS}-thread").strip("-")


def commit() -> str | None:
    """Of the checkout that this file is in, with a mark when tracked files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def description() -> dict:
    return {
        "processor": processor(),
        "threads": THREADS,
        "kernels": _native.level("cpu") or "none: the reference",
        "backend": kdops._backend.choice.name,
        "kdops": kdops.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
