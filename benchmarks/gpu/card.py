"""Which card it is, with its clock and its driver."""

import re
import subprocess

import torch

from kdops import _native

from .. import machine


def asked(field: str) -> str | None:
    """A field of nvidia-smi."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def most_hertz() -> float | None:
    """The multiprocessors' highest clock."""
    kilohertz = getattr(torch.cuda.get_device_properties(0), "clock_rate", 0)
    if kilohertz:
        return kilohertz * 1e3
    megahertz = asked("clocks.max.sm") or ""
    return float(megahertz) * 1e6 if megahertz.isdecimal() else None


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def description(device: str) -> dict:
    if device == "cpu":
        return {"card": f"{machine.processor()} (dry run)"}
    card = torch.cuda.get_device_properties(0)
    return {
        "card": card.name,
        "kernels": _native.level("cuda"),
        "capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "memory": card.total_memory,
        "cache": card.L2_cache_size,
        "most_hertz": most_hertz(),
        "mhz": asked("clocks.sm"),
        "cuda": torch.version.cuda,
        "driver": asked("driver_version"),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }
