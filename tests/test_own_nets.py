"""Networks by name: kdops' own, another library's, a Python path."""

import sys

import pytest
import torch
from torch import nn

pytest.importorskip("pydantic", reason="needs the extra kdops[train]")

from kdops.taps import find_layer
from kdops.training import nets

TIMM = """
from torch import nn

def is_model(name):
    return name == "tiny"

def create_model(name, *, num_classes, in_chans):
    return nn.Sequential(nn.Conv2d(in_chans, 2, 1), nn.Flatten(), nn.LazyLinear(num_classes))
"""


@pytest.fixture
def timm(tmp_path, monkeypatch):
    """A package of that name with the two functions that are called."""
    (tmp_path / "timm.py").write_text(TIMM)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("timm", None)


def test_a_library_s_net(timm):
    net = nets.make_net("tiny", classes=7, channels=3)
    assert net(torch.randn(2, 3, 4, 4)).shape == (2, 7)
    with pytest.raises(ValueError, match="network 'huge' must be one of teacher, student"):
        nets.make_net("huge", 7, 3)


def linear(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, classes))


def test_python_path():
    net = nets.make_net(f"{__name__}:linear", 5, 1)
    assert net(torch.randn(2, 1, 4, 4)).shape == (2, 5)
    assert nets.layers_of(net, ("embedding",), {}) == {"embedding": "3:input"}
    assert nets.layers_of(net, ("embedding",), {"embedding": "1"}) == {"embedding": "1"}


@pytest.mark.parametrize("name", [*nets.WIDTHS, "resnet"])
def test_own_nets(name):
    net = nets.make_net(name, 10, 1)
    for side in (8, 28):
        assert net(torch.randn(2, 1, side, side)).shape == (2, 10)
    for layer in ("early", "middle", "branch", "embedding"):
        find_layer(net, nets.layers_of(net, (layer,), {})[layer])


def test_the_student_is_much_smaller():
    teacher, resnet, student = (
        sum(x.numel() for x in nets.make_net(name, 10, 1).parameters())
        for name in ("teacher", "resnet", "student")
    )
    assert (teacher, resnet, student) == (151402, 77754, 4806)
