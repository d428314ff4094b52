"""Every behaviour is tested on all implementations: see the `backend` fixture.

KDOPS_TEST_BACKENDS chooses some of them: native, reference, emulator (tests/simt).
"""

import os

import hypothesis
import pytest
import torch

import kdops
from kdops import _native

hypothesis.settings.register_profile(
    "suite",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
)
hypothesis.settings.load_profile("suite")


BACKENDS = os.environ.get("KDOPS_TEST_BACKENDS", "native,reference").split(",")


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """The implementation that answers inside the test; the emulator counts as native."""
    if request.param == "native":
        request.getfixturevalue("native")
    if request.param == "emulator":
        from .emulated import emulated

        with emulated(monkeypatch), kdops.backend("native"):
            yield "native"
        return
    with kdops.backend(request.param):
        yield request.param


@pytest.fixture
def native():
    """Skip where the CPU library is not loaded; an op missing in a loaded one fails its tests."""
    if "cpu" not in _native.loaded:
        pytest.skip(f"no native CPU library: {_native.errors['cpu']}")


@pytest.fixture(autouse=True)
def _one_thread():
    """The batches are small; test_determinism shows that the number of threads changes nothing."""
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)
