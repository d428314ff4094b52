"""Every behaviour is tested on both implementations: see the `backend` fixture."""

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


@pytest.fixture(params=["native", "reference"])
def backend(request):
    """The implementation that answers inside the test."""
    if request.param == "native":
        request.getfixturevalue("native")
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
