"""The native libraries: loaded each in its own try, their schemas defined here in Python.

A schema defined from C++ would abort the process when it is defined twice; in Python that is an
error one can catch, and the schemas are there when no library is.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

DEVICES = ("cpu", "cuda")

_library = torch.library.Library("kdops", "FRAGMENT")
loaded: frozenset[str] = frozenset()
errors: dict[str, str] = {}
_handles: dict[str, ctypes.CDLL] = {}


def define(schema: str, fake: Callable[..., Any]) -> Any:
    """Define kdops::<schema> and its fake; returns the op, to be called without further lookup."""
    name = _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.register_fake(f"kdops::{name}", fake, lib=_library)
    return getattr(torch.ops.kdops, name).default


def _load(device: str) -> None:
    found = sorted(Path(__file__).parent.glob(f"_{device}.*so"))
    if not found:
        errors[device] = "not built"
        return
    try:
        handle = ctypes.CDLL(str(found[0]))
        getattr(handle, f"kdops_{device}_level")  # a foreign library has no such name
        torch.ops.load_library(str(found[0]))
        _handles[device] = handle
    except (OSError, RuntimeError, AttributeError) as error:
        errors[device] = str(error.__cause__ or error)


def load() -> None:
    """Load what was built for this installation; keep the reason where that fails."""
    global loaded
    for device in DEVICES:
        _load(device)
    loaded = frozenset(_handles)


def level(device: str) -> str | None:
    """What a library runs on, None without it: the CPU's instruction set that was chosen, the GPU
    architectures that were built.
    """
    if device not in _handles:
        return None
    function = getattr(_handles[device], f"kdops_{device}_level")
    function.restype = ctypes.c_char_p
    return function().decode()


load()
