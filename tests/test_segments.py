"""segments: the pieces of a model compute what it does, and what cannot be cut says so."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kdops import Tapped
from kdops.peers import segments
from kdops.peers.segments import Chain, join

from .backbones import NAMES, Residual, small


def run(pieces, values):
    for piece in pieces:
        values = piece(*values)
    return values


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_pieces_are_the_model(name, train):
    net, images, points = small(name)
    net.train(train)
    other = copy.deepcopy(net)
    pieces = segments(net, points)
    assert len(pieces) == 3
    seeds = []
    for forward in (lambda: run(pieces, (images,)), lambda: other(images)):
        torch.manual_seed(1)
        seeds.append(forward())
    assert torch.equal(*seeds)
    seeds[0].square().sum().backward()
    seeds[1].square().sum().backward()
    for (key, ours), theirs in zip(net.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad), key
    for ours, theirs in zip(net.buffers(), other.buffers(), strict=True):
        assert torch.equal(ours, theirs), "running statistics"


@pytest.mark.parametrize("name", NAMES)
def test_pieces_share_the_weights_under_their_names(name):
    net, images, points = small(name)
    pieces = segments(net, points)
    own = dict(net.named_parameters())
    found = {key: weight for piece in pieces for key, weight in piece.named_parameters()}
    assert found.keys() == own.keys() and all(found[key] is own[key] for key in own)
    whole = join(pieces).eval()
    assert whole.state_dict().keys() == net.state_dict().keys()
    assert torch.equal(whole(images), net.eval()(images))
    assert torch.equal(Chain(pieces)(images), net(images))


def test_the_first_value_is_the_points_input_and_skips_follow():
    net, images, points = small("residual")
    stem, middle, last = segments(net.eval(), points)
    _, features = Tapped(net, {"cut": "layer2:input", "early": "relu"})(images)
    feature, *others = stem(images)
    assert torch.equal(feature, features["cut"])
    tensors = [value for value in others if isinstance(value, torch.Tensor)]
    assert len(tensors) == 1 and tensors[0].shape == feature.shape, "the skip's value"
    assert [value for value in others if isinstance(value, int)] == [6], "x.size(0)"
    with Tapped(last, {"embedding": "fc:input"}) as tapped:
        assert tapped(*middle(feature, *others)).features["embedding"].shape == (6, 4)


def test_one_point_by_its_name_and_a_mode_that_changes_later():
    net, images, _ = small("residual")
    stem, tail = segments(net.eval(), "layer2")
    net.train()
    outputs = []
    for forward in (lambda: tail(*stem(images)), lambda: net(images)):
        torch.manual_seed(2)
        outputs.append(forward())
    assert torch.equal(*outputs), "dropout follows the model's mode"


class Asks(nn.Module):
    """A net whose forward pass is `body`."""

    def __init__(self, body):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.spare, self.relu = nn.Linear(4, 4), nn.ReLU()
        self.body = body

    def forward(self, x):
        return self.body(self, x)


BODIES = {
    "value": lambda s, x: s.second(s.first(x)) if x.sum() > 0 else s.second(x),
    "mode": lambda s, x: s.second(F.dropout(s.first(x), training=s.training)),
    "twice": lambda s, x: s.second(s.second(s.first(x))),
    "both": lambda s, x: s.first(s.second(s.first(x))),
    "weight": lambda s, x: s.second(s.first(x)) @ s.first.weight,
    "relu": lambda s, x: s.relu(s.second(s.relu(s.first(x)))),
}
BAD = {
    "value": "torch.fx can trace.*Branched\\(stem, tails\\)",
    "mode": "self.training",
    "twice": "'second' must run once in a pass of Asks, got 2 times",
    "both": "'first.weight' on both sides",
    "weight": "'first.weight' on both sides",
}


@pytest.mark.parametrize("name", BAD)
def test_a_model_that_cannot_be_cut(name):
    net = Asks(BODIES[name])
    net.second.eval()
    with pytest.raises(ValueError, match=f"segments: .*{BAD[name]}"):
        segments(net, ["second"])
    assert net.training and net.first.training and not net.second.training, "modes are as before"


def test_a_layer_without_weights_may_run_on_both_sides():
    net, x = Asks(BODIES["relu"]), torch.randn(3, 4)
    stem, tail = segments(net, ["second"])
    assert torch.equal(tail(*stem(x)), net(x))


@pytest.mark.parametrize(
    "points, message",
    [
        (["laier2"], "Residual has no layer 'laier2'; near: 'layer2'"),
        (["layer2.7"], "no layer 'layer2.7'"),
        (["layer2", "layer1"], "in the order in which they run, got 'layer2' in front of 'layer1'"),
        (["layer2", "layer2.0"], "'layer2' in front of 'layer2.0'"),
        (["layer2", "layer2"], "in the order"),
        (["relu"], "'relu' must run once in a pass of Residual, got 2 times"),
        ([""], "a submodule's name, got ''"),
    ],
)
def test_bad_points(points, message):
    with pytest.raises(ValueError, match=message):
        segments(Residual(), points)


def test_a_layer_that_does_not_run():
    with pytest.raises(ValueError, match="'spare' must run once in a pass of Asks, got 0 times"):
        segments(Asks(BODIES["relu"]), ["second", "spare"])


def test_a_point_that_is_given_no_tensor():
    class Lists(nn.Module):
        def forward(self, values):
            return values[0]

    net = Asks(lambda s, x: s.second(s.lists([s.first(x)])))
    net.lists = Lists()
    with pytest.raises(ValueError, match="'lists' must be given a tensor first, got list"):
        segments(net, ["lists"])


@pytest.mark.parametrize("name", NAMES)
def test_compiled(name):
    net, images, points = small(name)
    net.eval()
    pieces = segments(net, points)
    compiled = torch.compile(join(pieces), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), net(images), rtol=1e-5, atol=1e-6)
