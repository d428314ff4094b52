"""attach_aux_heads and MultiHeadGroup: heads that are tails of the net, and a peer's logits."""

import copy

import pytest
import torch
from torch import nn

from kdops.peers import MultiHeadGroup, MultiHeadNet, attach_aux_heads, branch

from .backbones import NAMES, Residual, small


def with_heads(name="residual", builder=None):
    net, images, points = small(name)
    return net, attach_aux_heads(net, points, builder), images


@pytest.mark.parametrize("name", NAMES)
def test_the_last_head_is_the_net_and_the_others_are_new_tails(name):
    net, images, points = small(name)
    expected = copy.deepcopy(net).eval()(images)
    headed = attach_aux_heads(net, points).eval()
    logits = headed(images)
    assert len(logits) == 3 and torch.equal(logits[-1], expected)
    assert torch.equal(headed.net(images), expected)
    assert headed.net.state_dict().keys() == net.state_dict().keys()
    values = (images,)
    for piece, head, own in zip(headed.pieces, headed.heads, logits, strict=False):
        values = piece(*values)
        assert torch.equal(head(*values), own) and not torch.equal(own, expected)
    weights = [*map(id, headed.parameters())]
    assert len(weights) == len(set(weights)), "no weight twice"
    assert set(map(id, net.parameters())) <= set(weights)


def test_a_head_is_the_rest_of_the_net():
    net, headed, _ = with_heads()
    names = [set(dict(head.named_parameters())) for head in headed.heads]
    rest = {key for key, _ in net.named_parameters() if key.startswith(("layer2.", "fc."))}
    assert names[0] == rest
    assert names[1] == {key for key in rest if not key.startswith("layer2.0")}


def test_gradients_reach_what_is_in_front_of_a_head_alone():
    _, headed, images = with_heads()
    headed(images)[0].square().sum().backward()
    moved = [all(p.grad is not None for p in piece.parameters()) for piece in headed.pieces]
    assert moved == [True, False, False]
    assert all(p.grad is not None for p in headed.heads[0].parameters())
    assert all(p.grad is None for p in headed.heads[1].parameters())


def test_a_builder_shortens_or_widens():
    asked = []

    def build(tail, point):
        asked.append(point)
        if point == "layer1":
            tail.layer2 = tail.layer2[:1]
            return tail
        tail.fc = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        return tail

    net, images, _ = small("residual")
    headed = attach_aux_heads(net, ["layer1", "layer2"], build)
    logits = headed(images)
    assert asked == ["layer1", "layer2"] and [z.shape for z in logits] == [(6, 3)] * 3
    first, second = headed.heads
    assert len(first.layer2) == 1 and len(net.layer2) == 2
    assert first.layer2[0].conv1.weight is not net.layer2[0].conv1.weight
    assert second.get_submodule("fc.2").out_features == 3 and isinstance(net.fc, nn.Linear)


def test_two_nets_of_several_heads():
    _, first, images = with_heads("residual")
    _, second, _ = with_heads("net")
    third = attach_aux_heads(small("net")[0], ["middle"])
    group = MultiHeadGroup([first, second, third], deployed=1).eval()
    logits, features = group(images)
    assert group.count == 3 and group.groups == [0, 0, 0, 1, 1, 1, 2, 2] and not features
    for i, last in enumerate([2, 5, 7]):
        assert torch.equal(group.peer(i)(images), logits[last])
    assert torch.equal(group.model(images), logits[5])
    assert torch.allclose(group.ensemble()(images).exp().sum(1), torch.ones(6))
    for i in range(3):
        group.active = i
        found = [z.requires_grad for z in group(images).logits]
        assert found == [own == i for own in group.groups]


def test_views_of_their_own():
    nets = [with_heads("net")[1] for _ in range(2)]
    group = MultiHeadGroup(nets, own_images=True).eval()
    views = torch.randn(2, 6, 1, 16, 16)
    logits = group(views).logits
    assert torch.equal(logits[2], nets[0](views[0])[-1])
    assert torch.equal(logits[3], nets[1](views[1])[0])


def test_no_points_is_the_net():
    net, images, _ = small("net")
    (logits,) = attach_aux_heads(net.eval(), [])(images)
    assert torch.equal(logits, net(images))


def test_parts_made_by_hand():
    pieces = [nn.Linear(4, 5), nn.Linear(5, 3)]
    headed = MultiHeadNet(pieces, [nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 3))])
    x = torch.randn(7, 4)
    assert torch.equal(headed(x)[1], pieces[1](pieces[0](x))), "the head's ReLU changed nothing"
    assert torch.equal(headed.net(x), headed(x)[1])


def test_compiled():
    _, headed, images = with_heads("net")
    group = MultiHeadGroup([headed.eval()])
    compiled = torch.compile(group, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(compiled(images).logits, group(images).logits, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: attach_aux_heads(Residual(), ["layer9"]), ValueError, "no layer 'layer9'; near"),
        (lambda: attach_aux_heads(Residual(), ["fc", "layer2"]), ValueError, "in the order"),
        (
            lambda: attach_aux_heads(Residual(), "layer2", lambda tail, point: None),
            TypeError,
            "attach_aux_heads: builder must give a module, got NoneType for point 'layer2'",
        ),
        (lambda: MultiHeadNet([nn.ReLU()], [nn.ReLU()]), ValueError, "got 1 heads and 1 pieces"),
        (lambda: MultiHeadGroup([Residual()]), TypeError, "MultiHeadNets, got Residual"),
    ],
    ids=["point", "order", "builder", "heads", "net"],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_peer_is_a_model_that_can_be_branched_again():
    net, headed, images = with_heads()
    again = branch(headed.net, "layer1", 2).eval()
    assert torch.equal(again(images).logits[0], net.eval()(images))
