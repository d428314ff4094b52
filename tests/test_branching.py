"""branch and Branched: one stem, K tails, and the gradient that each of them gets."""

import copy

import pytest
import torch
from torch import nn

from kdops.peers import Branched, HeadTree, attach_aux_heads, branch

from .backbones import NAMES, Residual, small

LAST = {"net": "head", "residual": "fc", "mixer": "head", "sequential": "4"}


def grads(parameters):
    return [None if p.grad is None else p.grad.clone() for p in parameters]


@pytest.mark.parametrize("name", NAMES)
def test_the_first_peer_is_the_model_and_the_others_are_not(name):
    net, images, points = small(name)
    expected = copy.deepcopy(net).eval()(images)
    group = branch(net, points[0], 3, {"embedding": f"{LAST[name]}:input"}).eval()
    logits, features = group(images)
    assert group.count == len(logits) == 3 and torch.equal(logits[0], expected)
    assert not torch.equal(logits[1], logits[0]) and not torch.equal(logits[1], logits[2])
    stem = group.stem(images)
    assert torch.equal(features["branch"], stem[0] if isinstance(stem, tuple) else stem)
    for i in range(3):
        peer = group.peer(i)
        assert torch.equal(peer(images), logits[i])
        last = peer.get_submodule(LAST[name])
        assert torch.equal(last(features["embedding"][i]).reshape(logits[i].shape), logits[i])
    assert group.model(images).equal(logits[0]), "deployed"


@pytest.mark.parametrize("name", NAMES)
def test_a_peers_weights_load_into_a_net_and_back(name):
    net, images, points = small(name)
    group = branch(net, points[0], 2).eval()
    peer = group.peer(1)
    fresh = small(name)[0].eval()
    fresh.load_state_dict(peer.state_dict())
    torch.testing.assert_close(fresh(images), group(images).logits[1], rtol=0, atol=0)
    with torch.no_grad():
        for weight in fresh.parameters():
            weight.mul_(1.5)
    peer.load_state_dict(fresh.state_dict())
    assert torch.equal(group(images).logits[1], fresh(images)), "shared with the group"
    again = branch(small(name)[0], points[0], 2).eval()
    again.load_state_dict(group.state_dict())
    for ours, theirs in zip(again(images).logits, group(images).logits, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_the_stem_gets_the_sum_of_the_tails_gradients(name):
    net, images, points = small(name)
    group = branch(net.double(), points[0], 3).eval()
    images = images.double()
    sum(z.square().sum() for z in group(images).logits).backward()
    whole = grads(group.stem.parameters())
    parts = []
    for i in range(3):
        group.zero_grad()
        group.peer(i)(images).square().sum().backward()
        parts.append(grads(group.stem.parameters()))
    for ours, *theirs in zip(whole, *parts, strict=True):
        torch.testing.assert_close(ours, sum(theirs), rtol=1e-12, atol=1e-14)


def test_only_the_active_peer_gets_a_gradient():
    net, images, points = small("residual")
    group = branch(net, points[0], 3)
    for i in range(3):
        group.active = i
        group.zero_grad()
        logits = group(images).logits
        assert [z.requires_grad for z in logits] == [j == i for j in range(3)]
        sum(z.square().sum() for z in logits).backward()
        for j, tail in enumerate(group.tails):
            assert all((p.grad is not None) == (j == i) for p in tail.parameters())
        assert all(p.grad is not None for p in group.stem.parameters())
    group.active = None
    assert all(z.requires_grad for z in group(images).logits)


class Grid(nn.Module):
    """A tail that writes into its input, as a net whose ReLU comes first."""

    def __init__(self, classes=3):
        super().__init__()
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(5, classes)

    def forward(self, x):
        return self.fc(self.relu(x))


def test_parts_made_by_hand_and_tails_that_write_in_place():
    torch.manual_seed(0)
    stem, tails = nn.Linear(4, 5), [Grid(), nn.Linear(5, 3), nn.Sequential(nn.Linear(5, 3))]
    group = Branched(stem, tails, deployed=1)
    x = torch.randn(7, 4)
    logits, features = group(x)
    assert torch.equal(features["branch"], stem(x)) and (features["branch"] < 0).any()
    assert torch.equal(logits[1], tails[1](stem(x))) and torch.equal(logits[2], tails[2](stem(x)))
    assert torch.equal(group.model(x), logits[1])
    peer = group.peer(2)
    assert torch.equal(peer(x), logits[2])
    assert set(map(id, peer.parameters())) == {
        *map(id, [*stem.parameters(), *tails[2].parameters()])
    }
    sum(z.sum() for z in logits).backward()
    assert all(p.grad is not None for p in group.parameters())
    assert torch.allclose(group.ensemble()(x).exp().sum(1), torch.ones(7))


def test_a_stem_of_several_values():
    class Stem(nn.Module):
        def forward(self, x):
            return x * 2, x, "kept"

    class Tail(nn.Module):
        def forward(self, feature, skip, text):
            assert text == "kept"
            return feature + skip

    group = Branched(Stem(), [Tail(), Tail()])
    x = torch.randn(3, 4)
    assert torch.equal(group(x).logits[1], 3 * x) and torch.equal(
        group(x).features["branch"], 2 * x
    )
    assert torch.equal(group.peer(0)(x), 3 * x)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.fc, self.scale = (
            nn.Linear(4, 4),
            nn.Linear(4, 3),
            nn.Parameter(torch.ones(1)),
        )

    def forward(self, x):
        return self.fc(self.stem(x)) * self.scale


class Inside(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.tail = nn.Linear(4, 4), nn.Sequential(Scaled())

    def forward(self, x):
        return self.tail(self.stem(x))


def test_a_module_that_cannot_be_initialised_anew():
    with pytest.raises(ValueError, match=r"branch: .*the net itself with scale"):
        branch(Scaled(), "fc", 2)
    with pytest.raises(ValueError, match=r"got tail\.0 with scale; give it that method"):
        branch(Inside(), "tail", 2)
    assert branch(Inside(), "tail", 1).count == 1, "nothing to initialise"


def test_attention_is_initialised_anew_from_the_outside_in():
    net = nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 1, 8), nn.Linear(4, 3))
    tail = branch(net, "1", 2).tails[1].get_submodule("1")
    own = net[1].self_attn
    assert not torch.equal(tail.self_attn.in_proj_weight, own.in_proj_weight)
    assert not tail.self_attn.out_proj.bias.any(), "attention sets its projection's bias to 0"


def test_batch_statistics_and_gradients_start_anew():
    net, images, points = small("residual")
    net(images).sum().backward()
    group = branch(net, points[0], 2)
    old, new = (tail.get_submodule("layer2.0.norm") for tail in group.tails)
    assert old.running_mean.any() and not new.running_mean.any()
    assert all(p.grad is None for p in group.tails[1].parameters())


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: branch(Residual(), "layer2", 0), ValueError, "branch: n must be >= 1, got 0"),
        (lambda: branch(Residual(), "layer2", 2.0), TypeError, "branch: n must be an int"),
        (lambda: branch(Residual(), "layer9", 2), ValueError, "no layer 'layer9'; near"),
        (
            lambda: branch(Residual(), "layer2", 2, {"x": "conv"}),
            ValueError,
            "behind the cut, in front of 'layer2', got 'conv'",
        ),
        (
            lambda: branch(Residual(), "layer2", 2, {"branch": "fc"}),
            ValueError,
            "Branched: layers must leave the name 'branch'",
        ),
        (
            lambda: branch(Residual(), "layer2", 2, deployed=2),
            ValueError,
            "Branched: deployed must be in 0..1, got 2",
        ),
        (lambda: branch(Residual(), "layer2", 2).peer(2), ValueError, "peer must be in 0..1"),
        (lambda: Branched(nn.Linear(4, 4), []), ValueError, "Branched: levels must be one stem"),
    ],
    ids=["none", "float", "point", "layer", "name", "deployed", "peer", "tails"],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_layer_that_the_cut_goes_through():
    net, images, _ = small("residual")
    with pytest.raises(RuntimeError, match="'layer2' did not run"):
        branch(net, "layer2.1", 2, {"x": "layer2"})(images)


@pytest.mark.parametrize("name", ["net", "mixer"])
def test_compiled(name):
    net, images, points = small(name)
    group = branch(net, points[0], 2, {"embedding": f"{LAST[name]}:input"})
    compiled = torch.compile(group, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(compiled(images).logits, group(images).logits, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def scaled(i):
    """Of a kind that has no reset_parameters: its constructor initialises it."""
    torch.manual_seed(i)
    net = Scaled()
    nn.init.constant_(net.scale, i + 1.0)
    return net


def test_tails_of_other_nets():
    nets = [scaled(i) for i in range(3)]
    x = torch.randn(5, 4)
    group = branch(nets[0], "fc", 3, make_net=nets.__getitem__)
    for i, logits in enumerate(group(x).logits):
        assert torch.equal(logits, nets[i].fc(nets[0].stem(x)) * nets[i].scale)
        assert group.tails[i].get_submodule("fc") is nets[i].fc
    tree = HeadTree.of(scaled(0), ["stem", "fc"], (1, 3), make_net=scaled)
    assert [leaf.model.scale.item() for leaf in tree.levels[2]] == [1, 2, 3]
    tree = HeadTree.of(scaled(0), ["stem", "fc"], (2, 2), make_net=scaled)
    assert torch.equal(tree.levels[1][1].stem.weight, scaled(2).stem.weight)
    heads = attach_aux_heads(scaled(0), ["stem", "fc"], make_net=scaled).heads
    assert [head.scale.item() for head in heads] == [2, 3]
    assert torch.equal(heads[0].stem.weight, scaled(1).stem.weight)


def test_other_nets_must_have_weights_of_their_own():
    shared = scaled(0)
    with pytest.raises(ValueError, match=r"branch: make_net must give weights of its own.*net 1"):
        branch(shared, "fc", 2, make_net=lambda i: shared)
    again = scaled(1)
    with pytest.raises(ValueError, match=r"branch: make_net must give weights of its own.*net 2"):
        branch(shared, "fc", 3, make_net=lambda i: again)


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_has_weights_of_its_own(name):
    net, images, points = small(name)
    group = branch(net, points[0], 2, {"embedding": f"{LAST[name]}:input"}).eval()
    twin = copy.deepcopy(group)
    for ours, theirs in zip(twin(images).logits, group(images).logits, strict=True):
        assert torch.equal(ours, theirs)
    assert not set(twin.parameters()) & set(group.parameters())
    assert not set(copy.deepcopy(group.peer(1)).parameters()) & set(group.parameters())
