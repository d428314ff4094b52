"""The native backend of CPU tensors answered by the CUDA kernels, on an emulator or on a GPU.

So every test of the public functions is a test of the CUDA kernels: same cases, same oracle, same
tolerances. See the `backend` fixture.
"""

import contextlib
import importlib
import warnings

import torch

from kdops import _native
from kdops.functional import _dispatch

MODULES = {"emulator": "emulated", "cuda": "on_gpu"}  # each with OPS and missing()


def find(name: str):
    """The module of a stand-in."""
    return importlib.import_module(f".{MODULES[name]}", __package__)


@contextlib.contextmanager
def registered(ops: dict, monkeypatch):
    """Inside, `ops` stand in for the CPU's kernels of the same names."""
    library = torch.library.Library("kdops", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the CPU's own kernels are overridden on purpose
        for op, function in ops.items():
            library.impl(op, function, "CPU", allow_override=True)
    monkeypatch.setattr(_native, "loaded", _native.loaded | {"cpu"})
    monkeypatch.setattr(_dispatch, "_scaled_by_op", {"cpu", "cuda"})
    try:
        yield
    finally:
        library._destroy()
