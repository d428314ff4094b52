"""What a group of peers or an online method is given wrongly: said before anything is trained."""

import pytest
import torch

from kdops.methods import online
from kdops.peers import HeadTree, MultiHeadGroup, NetGroup, attach_aux_heads, branch

from .test_online_methods import LAYERS, batch, make_net

OWN_IMAGES = {
    "DML": lambda: online.DML(count=3, own_images=True),
    "KDCL": lambda: online.KDCL(count=3),
    "DCM": lambda: online.DCM(count=3, own_images=True),
}


@pytest.mark.parametrize("name", OWN_IMAGES)
def test_one_batch_where_every_peer_has_its_own(name):
    group, (images, _) = OWN_IMAGES[name]().assemble(make_net, LAYERS), batch()
    with pytest.raises(ValueError, match=r"images must be \(3, N, .*\(own_images\), got 16"):
        group(images)
    assert len(group(torch.stack([images] * 3)).logits) >= 3


def test_one_batch_for_nets_with_rows_of_their_own():
    group, (images, _) = online.Codistillation(count=3).assemble(make_net, {}), batch()
    with pytest.raises(ValueError, match=r"images must be \(3, N, .*\(own_rows\), got 16"):
        group(images)


def test_codistillation_without_steps():
    """Else each net would learn from the labels alone, without a word."""
    method, (images, labels) = online.Codistillation(shards="same"), batch()
    group = method.assemble(make_net, {})
    with pytest.raises(RuntimeError, match=r"call set_step\(step, group\) before every step"):
        method(group(images), labels)


WHOLE_NETS = {
    "DML": online.DML,
    "KDCL": online.KDCL,
    "DCM": online.DCM,
    "OKDDip": lambda: online.OKDDip(based="network"),
    "Codistillation": online.Codistillation,
}


@pytest.mark.parametrize("name", WHOLE_NETS)
def test_nets_that_are_none_or_one(name):
    """One net for all peers would agree with itself, and a soft term of 0 says nothing."""
    net = make_net(0)
    with pytest.raises(ValueError, match=f"{name}: make_net must make a new net for each peer"):
        WHOLE_NETS[name]().assemble(lambda i: net, LAYERS)
    with pytest.raises(TypeError, match=f"{name}: make_net must give modules, got NoneType"):
        WHOLE_NETS[name]().assemble(lambda i: None, LAYERS)


OPTIONS = {
    "ramp": (lambda: online.ONE(ramp=0.5), TypeError, "ONE: ramp must be an int, a function"),
    "length": (lambda: online.ONE(ramp=0), ValueError, "length must be >= 1 epoch, got 0"),
    "fork": (lambda: online.Collaborative(fanout=4), ValueError, r"a number for each layer of at"),
    "forks": (lambda: online.Collaborative(fanout=(2.0, 2)), TypeError, r"fanout\[0\] must be an"),
    "none": (lambda: online.Collaborative(fanout=(2, 0)), ValueError, r"fanout\[1\] must be >= 1"),
    "linear": (lambda: online.KDCL(rule="linear", count=9), ValueError, r"count must be in 1..8"),
    "general": (lambda: online.KDCL(rule="general", count=9), ValueError, r"count must be in 1..8"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name):
    call, error, text = OPTIONS[name]
    with pytest.raises(error, match=text):
        call()


def test_one_fork_by_its_number():
    assert online.Collaborative("branch", fanout=3).assemble(make_net, LAYERS).count == 3
    assert online.KDCL(count=9).count == 9


GROUPS = {
    "nets": lambda **o: NetGroup([make_net(0), make_net(1)], **o),
    "heads": lambda **o: MultiHeadGroup(
        [attach_aux_heads(make_net(i), "middle") for i in (0, 1)], **o
    ),
    "branches": lambda **o: branch(make_net(0), "middle", 2, **o),
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_peer_that_is_not_there(name):
    for number in (2, -1):
        with pytest.raises(ValueError, match=f"peer must be in 0..1, got {number}"):
            GROUPS[name]().peer(number)
        with pytest.raises(ValueError, match=f"deployed must be in 0..1, got {number}"):
            GROUPS[name](deployed=number)


def test_a_group_of_nobody():
    for group in (NetGroup, MultiHeadGroup):
        with pytest.raises(ValueError, match=f"{group.__name__}: the number of peers must be >= 1"):
            group([])


def test_a_feature_in_front_of_the_cut():
    """The net has the layer, so that it has none of that name would be no help."""
    method, text = (
        online.OKDDip(),
        "layers must be behind the cut, in front of 'middle', got 'early'",
    )
    with pytest.raises(ValueError, match=text):
        method.assemble(make_net, LAYERS | {"embedding": "early:input"})
    with pytest.raises(ValueError, match=text):
        HeadTree.of(make_net(0), "middle", 2, layers={"x": "early"})
    with pytest.raises(ValueError, match="Net has no layer 'embeding'; near: 'embedding'"):
        method.assemble(make_net, LAYERS | {"embedding": "embeding"})


def test_alternating_nets_without_turns():
    """Else they would all learn at once, without a word."""
    method, (images, labels) = online.DML(update="alternating"), batch()
    group = method.assemble(make_net, {})
    with pytest.raises(RuntimeError, match="DML: set turn, and the group's active, to a net's"):
        method(group(images), labels)
    method.turn = group.active = 1
    method(group(images), labels).backward()
    assert [next(net.parameters()).grad is None for net in group.nets] == [True, False]
