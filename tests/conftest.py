"""Every behaviour is tested on all implementations: see the `backend` fixture.

KDOPS_TEST_BACKENDS chooses some of them: native, reference, and what stands in for the native one
(tests/stand_in.py): emulator, cuda.
"""

import os

import hypothesis
import pytest
import torch

import kdops
from kdops import _native

from . import stand_in

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


# First, so that no worker is left alone with one of them at the end.
LONGEST = ("tests/simt/", "tests/test_peer_training.py", "tests/test_training_loop.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


BACKENDS = os.environ.get("KDOPS_TEST_BACKENDS", "native,reference").split(",")


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """The implementation that answers inside the test; what stands in for it counts as native."""
    if request.param == "native":
        request.getfixturevalue("native")
    if request.param in stand_in.MODULES:
        module = stand_in.find(request.param)
        if reason := module.missing():
            pytest.skip(reason)
        with stand_in.registered(module.OPS, monkeypatch), kdops.backend("native"):
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
