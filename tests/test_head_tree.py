"""HeadTree: leaves on shared parts, and what a fork does to the gradient."""

import copy

import pytest
import torch
from torch import nn

from kdops.nn import grad_rescale
from kdops.peers import HeadTree

from .backbones import NAMES, Residual, small


def tree(name="net", **options):
    net, images, points = small(name)
    options = {"at": points, "fanout": (2, 2), **options}
    return HeadTree.of(net.double(), **options).eval(), images.double()


def gradients(group, images, leaves):
    """Of every level's parts, from the sum of losses of some leaves."""
    group.zero_grad()
    logits = group(images).logits
    sum(logits[i].square().sum() for i in leaves).backward()
    return [
        [[torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in part.parameters()]
         for part in level]
        for level in group.levels
    ]  # fmt: skip


def add(*parts):
    return [sum(values) for values in zip(*parts, strict=True)]


def assert_same(ours, theirs, factor=1.0):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b * factor, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_a_leaf_is_the_path_to_it(name):
    net, images, points = small(name)
    expected = copy.deepcopy(net).eval()(images)
    group = HeadTree.of(net, points, (2, 3)).eval()
    logits, features = group(images)
    assert group.count == len(logits) == 6
    assert [len(level) for level in group.levels] == [1, 2, 6]
    assert torch.equal(logits[0], expected) and group.model(images).equal(expected)
    for i in range(6):
        assert torch.equal(group.peer(i)(images), logits[i])
        assert group.peer(i).state_dict().keys() == net.state_dict().keys()
        assert all(i == j or not torch.equal(logits[i], logits[j]) for j in range(6))
    stem = group.levels[0][0](images)
    assert torch.equal(features["branch"], stem[0] if isinstance(stem, tuple) else stem)
    middle, other = (set(map(id, part.parameters())) for part in group.levels[1])
    for i in range(6):
        held = set(map(id, group.peer(i).parameters()))
        assert middle <= held if i < 3 else other <= held
        assert not (other & held if i < 3 else middle & held)


@pytest.mark.parametrize("name", NAMES)
def test_a_fork_gives_the_mean_of_its_childrens_gradients(name):
    group, images = tree(name)
    whole = gradients(group, images, range(4))
    group.rescale = False
    alone = [gradients(group, images, [i]) for i in range(4)]
    stem = add(*(a[0][0] for a in alone))
    assert_same(whole[0][0], stem, 1 / 4)
    assert_same(whole[1][0], add(alone[0][1][0], alone[1][1][0]), 1 / 2)
    assert_same(whole[1][1], add(alone[2][1][1], alone[3][1][1]), 1 / 2)
    for i in range(4):
        assert_same(whole[2][i], alone[i][2][i])
    plain = gradients(group, images, range(4))
    assert_same(plain[0][0], stem)
    assert_same(plain[1][0], add(alone[0][1][0], alone[1][1][0]))


def test_fanouts_that_differ():
    group, images = tree("residual", fanout=(1, 3))
    assert [len(level) for level in group.levels] == [1, 1, 3]
    whole = gradients(group, images, range(3))
    group.rescale = False
    plain = gradients(group, images, range(3))
    assert_same(whole[0][0], plain[0][0], 1 / 3)
    assert_same(whole[1][0], plain[1][0], 1 / 3)
    assert tree(fanout=2, at="middle")[0].count == 2


def test_rescaling_changes_no_value_and_the_heads_learn_as_alone():
    group, images = tree("residual")
    first = group(images).logits
    group.rescale = False
    for ours, theirs in zip(first, group(images).logits, strict=True):
        assert torch.equal(ours, theirs)


def test_only_the_active_leaf_gets_a_gradient():
    group, images = tree()
    for i in range(4):
        group.active = i
        found = gradients(group, images, [i])
        logits = group(images).logits
        assert [z.requires_grad for z in logits] == [j == i for j in range(4)]
        for level in found:
            moved = [any(g.any() for g in part) for part in level]
            assert moved == [j == i * len(level) // 4 for j in range(len(level))]


def test_features_of_the_leaves():
    group, images = tree(layers={"embedding": "head:input"})
    logits, features = group(images)
    assert len(features["embedding"]) == 4
    for i, value in enumerate(features["embedding"]):
        assert torch.equal(group.peer(i).get_submodule("head")(value), logits[i])


def test_parts_made_by_hand():
    torch.manual_seed(0)
    stem, forks = nn.Linear(4, 5), [nn.Linear(5, 5), nn.Linear(5, 5)]
    leaves = [nn.Linear(5, 3) for _ in range(6)]
    group = HeadTree([[stem], forks, leaves], deployed=4)
    x = torch.randn(7, 4)
    logits = group(x).logits
    assert torch.equal(logits[4], leaves[4](forks[1](stem(x))))
    assert torch.equal(group.model(x), logits[4])
    sum(z.sum() for z in logits).backward()
    expected = sum(
        leaves[i](grad_rescale(forks[i // 3](grad_rescale(stem(x), 1 / 2)), 1 / 3)).sum()
        for i in range(6)
    )
    (theirs,) = torch.autograd.grad(expected, stem.weight)
    torch.testing.assert_close(stem.weight.grad, theirs)


@pytest.mark.parametrize("rescale", [True, False])
def test_compiled_under_autocast(rescale):
    net, images, points = small("net")
    group = HeadTree.of(net, points, (2, 2), rescale=rescale)
    compiled = torch.compile(group, fullgraph=True, backend="aot_eager")
    found = []
    for forward in (group, compiled):
        group.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = forward(images).logits
        sum(z.float().square().sum() for z in logits).backward()
        found.append([p.grad for p in group.levels[0].parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: HeadTree.of(Residual(), ["layer2"], [2, 2]),
            "HeadTree: fanout must have a number",
        ),
        (lambda: HeadTree.of(Residual(), [], []), "HeadTree: fanout must have a number"),
        (lambda: HeadTree.of(Residual(), ["layer2"], [0]), r"fanout\[0\] must be >= 1, got 0"),
        (lambda: HeadTree.of(Residual(), ["fc", "layer2"], [2, 2]), "in the order"),
        (lambda: HeadTree([[nn.ReLU()]]), r"HeadTree: levels must be one stem .*, got \[1\]"),
        (lambda: HeadTree([[nn.ReLU()] * 2, [nn.ReLU()] * 2]), r"got \[2, 2\]"),
        (lambda: HeadTree([[nn.ReLU()], [nn.ReLU()] * 2, [nn.ReLU()] * 3]), r"got \[1, 2, 3\]"),
        (lambda: tree()[0].peer(4), "HeadTree: peer must be in 0..3, got 4"),
    ],
    ids=["few", "none", "zero", "order", "stem", "stems", "odd", "peer"],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
