"""What only a GPU can show; skipped without one.

KDOPS_TEST_DEVICE=cpu runs what asks for no more than a device on the CPU's kernels: that proves the
tests' own code.
"""

import os

import pytest
import torch

import kdops

from .. import on_gpu

DEVICE = os.environ.get("KDOPS_TEST_DEVICE", "cuda")


@pytest.fixture
def device():
    """Where the tensors of a test are; the kernels answer."""
    if DEVICE == "cuda" and (reason := on_gpu.missing()):
        pytest.skip(reason)
    with kdops.backend("native"):
        yield DEVICE
    if DEVICE == "cuda":
        torch.cuda.synchronize()  # a fault is the fault of the test that launched it


@pytest.fixture
def gpu(device):
    """For streams, graphs and the like."""
    if device != "cuda":
        pytest.skip("needs a GPU, not only a device")
    return device
