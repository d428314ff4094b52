"""CRD of RepDistiller and mdistiller: signatures, state, values, gradients, memory."""

import copy

import pytest
import torch

from kdops.compat import repdistiller

from . import published_contrast as published
from .contrast_cases import BOTH, SIGNATURES, Draw, state
from .parity import TOLERANCES, signatures

DRAWS = pytest.mark.parametrize("seed", range(3))
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)


@pytest.mark.parametrize("peer", SIGNATURES, ids=lambda m: m.__name__)
def test_signatures(peer):
    for name, expected in SIGNATURES[peer].items():
        cls = getattr(peer, name)
        if name == "AliasMethod":
            cls = type(name, (), {"__init__": cls.__init__, "forward": cls.draw})
        assert signatures(cls) == expected


def exact(*tensors):
    """Leaves in float64."""
    return [x.detach().double().requires_grad_() for x in tensors]


def close(actual, expected, tolerance):
    """To the tolerance of the largest entry; the same shapes, and something to compare."""
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape and b.any()
        assert (a.double() - b).abs().max() <= tolerance * b.abs().max()


def same(value, leaves, expected, peers, tolerance):
    """Values, and gradients of the sum of their squares."""
    close(value, expected, tolerance)
    gradients, slopes = (
        torch.autograd.grad(sum(x.square().sum() for x in found), tensors)
        for found, tensors in ((value, leaves), (expected, peers))
    )
    assert all(a.dtype == x.dtype for a, x in zip(gradients, leaves, strict=True))
    close(gradients, slopes, 4 * tolerance)


@BOTH
@DRAWS
@DTYPES
@pytest.mark.parametrize("trailing", [(), (1,)])
def test_the_loss_of_ratios(peer, seed, dtype, trailing):
    draw = Draw(seed, dtype)
    x = draw.normal(draw.rows, draw.negatives + 1, *trailing).detach().exp().requires_grad_()
    (x_,) = exact(x)
    value, expected = peer.ContrastLoss(20)(x), published.ContrastLoss(x_, 20)
    same([value], [x], [expected], [x_], TOLERANCES[dtype])


@BOTH
@DRAWS
@DTYPES
def test_the_memory(peer, seed, dtype):
    """Three batches: the first sets Z, later ones do not; the memory after each."""
    draw = Draw(seed, dtype)
    memory, tolerance = draw.memory(peer), TOLERANCES[dtype]
    before = state(memory)
    for step in range(3):
        leaves, (y, idx) = [draw.unit(), draw.unit()], draw.indices()
        peers = exact(*leaves)
        value, (expected, after) = (
            memory(*leaves, y, idx),
            published.ContrastMemory(before, *peers, y, idx),
        )
        same(value, leaves, expected, peers, tolerance)
        found = state(memory)
        close(found.values(), after.values(), tolerance)
        untouched = torch.ones(draw.samples, dtype=torch.bool)
        untouched[y] = False
        for name in ("memory_v1", "memory_v2"):
            assert torch.equal(found[name][untouched], before[name][untouched])
            assert not torch.isclose(found[name][y], before[name][y]).all(1).any()
        assert step == 0 or torch.equal(found["params"], before["params"])
        before = found


@DRAWS
@DTYPES
def test_the_whole_loss(seed, dtype):
    """And the gradients of both embeddings."""
    draw = Draw(seed, dtype)
    loss, tolerance = repdistiller.CRDLoss(draw.options()).to(dtype), TOLERANCES[dtype]
    for _ in range(3):
        features = [draw.normal(draw.rows, 6), draw.normal(draw.rows, 2, 5)]
        y, idx = draw.indices()
        weights = list(loss.parameters())
        peers, copies = exact(*features), exact(*weights)
        memory, embeds = state(loss.contrast), [copies[:2], copies[2:]]
        value = loss(*features, y, idx)
        expected, after = published.CRDLoss(embeds, memory, draw.samples, *peers, y, idx)
        assert value.shape == (1,) and len(weights) == 4
        same([value], [*features, *weights], [expected], [*peers, *copies], tolerance)
        close(state(loss.contrast).values(), after.values(), tolerance)


@BOTH
@DRAWS
@DTYPES
def test_embeddings(peer, seed, dtype):
    draw = Draw(seed, dtype)
    torch.manual_seed(seed)
    embed = peer.Embed(12, 5).to(dtype)
    torch.manual_seed(seed)
    first = torch.nn.Linear(12, 5).to(dtype)
    x = draw.normal(draw.rows, 3, 4)
    leaves = [embed.linear.weight, embed.linear.bias, x]
    assert torch.equal(leaves[0], first.weight) and torch.equal(leaves[1], first.bias)
    peers, weight = exact(*leaves), draw.normal(5).detach()
    value, expected = embed(x) * weight, published.Embed(*peers) * weight
    same([value], leaves, [expected], peers, TOLERANCES[dtype])
    x = draw.normal(4, 6).detach().exp().requires_grad_()
    (x_,) = exact(x)
    for power in (2, 3):
        value, expected = (peer.Normalize(power)(x) + x).exp(), published.Normalize(x_, power)
        same([value], [x], [(expected + x_).exp()], [x_], TOLERANCES[dtype])


@BOTH
def test_state_and_first_values(peer):
    torch.manual_seed(3)
    memory = peer.ContrastMemory(12, 20, 4)
    torch.manual_seed(3)
    banks = [torch.rand(20, 12).mul_(2 * 0.5).add_(-0.5) for _ in range(2)]
    found = memory.state_dict()
    assert list(found) == ["params", "memory_v1", "memory_v2"] and not list(memory.parameters())
    assert torch.equal(found["params"], torch.tensor([4, 0.07, -1, -1, 0.5]))
    assert all(map(torch.equal, list(found.values())[1:], banks))
    assert not peer.ContrastLoss(20).state_dict()


def test_state_of_the_whole_loss():
    draw = Draw(0)
    torch.manual_seed(3)
    loss = repdistiller.CRDLoss(draw.options())
    torch.manual_seed(3)
    layers = [torch.nn.Linear(6, draw.width), torch.nn.Linear(10, draw.width)]
    memory = repdistiller.ContrastMemory(draw.width, draw.samples, draw.negatives, 0.2, 0.3)
    expected = {
        **{f"embed_{n}.linear.{k}": v for n, x in zip("st", layers, strict=True)
           for k, v in x.state_dict().items()},
        **{f"contrast.{name}": x for name, x in memory.state_dict().items()},
    }  # fmt: skip
    found = loss.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], x) for name, x in expected.items())


@BOTH
def test_draws(peer):
    """Without idx: those of the peer from the same seed, column 0 the batch's own."""
    draw = Draw(1)
    memory, (y, _) = draw.memory(peer), draw.indices()
    same_memory, leaves = copy.deepcopy(memory), [draw.unit(), draw.unit()]
    torch.manual_seed(7)
    value = memory(*leaves, y)
    torch.manual_seed(7)
    count = draw.rows * (draw.negatives + 1)
    tables = torch.ones(draw.samples), torch.zeros(draw.samples, dtype=torch.long)
    idx = published.AliasMethod(*tables, count).view(draw.rows, -1)
    idx[:, 0] = y
    assert all(map(torch.equal, value, same_memory(*leaves, y, idx)))


@BOTH
@pytest.mark.parametrize("probs", [[1.0], [1.0] * 49, [3.0, 1.0, 0.0, 2.0, 7.0], [0.5, 0.2, 0.3]])
def test_the_alias_method(peer, probs):
    """The tables hold the distribution, and a seed gives the peer's draws."""
    given = torch.tensor(probs)
    made = peer.AliasMethod(given)
    held = made.prob.clone()
    held.index_add_(0, made.alias, 1 - made.prob)
    torch.testing.assert_close(held / len(probs), given / given.sum())
    assert torch.equal(given, torch.tensor(probs))  # the peer divides it in place
    torch.manual_seed(5)
    found = made.draw(200)
    torch.manual_seed(5)
    assert torch.equal(found, published.AliasMethod(made.prob, made.alias, 200))
    made.to("meta")
    assert made.prob.is_meta and made.alias.is_meta
