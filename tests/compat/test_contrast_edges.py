"""CRD of RepDistiller and mdistiller: where kdops differs, and what it refuses."""

import copy

import pytest
import torch

from ..cases import generator
from . import published_contrast as published
from .contrast_cases import BOTH, Draw, state


@BOTH
def test_a_zero_row(peer):
    draw = Draw(0)
    x = torch.randn(4, 5, generator=generator(0), dtype=torch.float64)
    x[1] = 0
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(peer.Normalize()(x).exp().sum(), x)
    assert (gradient[1] == 0).all() and gradient.isfinite().all() and gradient.any()
    assert published.Normalize(x)[1].isnan().all()
    memory, (y, idx) = draw.memory(peer), draw.indices()
    memory.memory_v1[y[0]] = 0  # so that the moved row is 0 too
    leaves = [draw.unit().detach(), draw.unit().detach()]
    leaves[0][0] = 0
    leaves = [v.requires_grad_() for v in leaves]
    value = sum(peer.ContrastLoss(draw.samples)(out) for out in memory(*leaves, y, idx))
    assert all(g.isfinite().all() for g in torch.autograd.grad(value, leaves))
    assert all(x.isfinite().all() for x in memory.state_dict().values())


@BOTH
def test_params_keep_no_graph(peer):
    """The peers write Z with its graph: params asks for a gradient from then on."""
    draw = Draw(0)
    memory, (y, idx) = draw.memory(peer), draw.indices()
    memory(draw.unit(), draw.unit(), y, idx)
    assert not memory.params.requires_grad and (memory.params > 0).all()
    copy.deepcopy(memory)


@BOTH
def test_integer_options(peer):
    """The peers' params are integers then, and Z is cut."""
    memory = peer.ContrastMemory(4, 20, 4, 1, 0)
    assert memory.params.tolist() == [4, 1, -1, -1, 0] and memory.params.is_floating_point()


@BOTH
def test_a_ratio_next_to_one(peer):
    """In float32 the peers' quotient is 1, its logarithm 0."""
    x = torch.full((1, 2), 1e9)
    x[0, 1] = 0
    value, there = peer.ContrastLoss(10)(x), published.ContrastLoss(x, 10)
    assert value.item() == pytest.approx(published.ContrastLoss(x.double(), 10).item(), rel=1e-5)
    assert there.item() != pytest.approx(value.item(), rel=1e-4)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_computed_in_float32(peer, dtype):
    draw = Draw(2, torch.float32)
    memory, (y, idx) = draw.memory(peer), draw.indices()
    again, leaves = copy.deepcopy(memory), [draw.unit().to(dtype) for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16):
        value = memory(*leaves, y, idx)
    assert all(map(torch.equal, value, again(*(x.float() for x in leaves), y, idx)))
    assert value[0].dtype == memory.memory_v1.dtype == torch.float32
    x = leaves[0].exp()
    loss = peer.ContrastLoss(10)
    assert torch.equal(loss(x), loss(x.float()))
    embed = peer.Embed(draw.width, 3)
    assert torch.equal(embed(x), embed(x.float()))


def changed(x, place, value):
    x = x.clone()
    x.view(-1)[place] = value
    return x


WRONG = [
    (TypeError, r"v1 must be a tensor, got list", lambda a, b, y, i: ([1.0], b, y, i)),
    (ValueError, r"v2 must be \(N, D\) features", lambda a, b, y, i: (a, b[:, :, None], y, i)),
    (ValueError, r"v1 must be \(N, \d\), N >= 1, as", lambda a, b, y, i: (a[:, 1:], b, y, i)),
    (ValueError, r"v1 must be .* got \(0, ", lambda a, b, y, i: (a[:0], b[:0], y[:0], i[:0])),
    (ValueError, r"v1 and v2 must have the same number", lambda a, b, y, i: (a, b[1:], y, i)),
    (ValueError, r"y must have the shape \(\d,\)", lambda a, b, y, i: (a, b, y[1:], i)),
    (ValueError, r"y must have the shape \(\d,\)", lambda a, b, y, i: (a, b, y[:, None], i)),
    (ValueError, r"idx must have the shape \(\d, \d\)", lambda a, b, y, i: (a, b, y, i[:, 1:])),
    (TypeError, r"y must be a tensor, got NoneType", lambda a, b, y, i: (a, b, None, i)),
    (TypeError, r"y must be int64 or int32, got", lambda a, b, y, i: (a, b, y.double(), i)),
    (TypeError, r"idx must be int64 or int32, got", lambda a, b, y, i: (a, b, y, i > 3)),
    (IndexError, r"y must be in \[0, .* got 99", lambda a, b, y, i: (a, b, changed(y, 1, 99), i)),
    (IndexError, r"idx must be in .* got -1", lambda a, b, y, i: (a, b, y, changed(i, 5, -1))),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("error, message, spoil", WRONG)
def test_bad_batches(peer, error, message, spoil):
    """Nothing is written."""
    draw = Draw(0)
    memory = draw.memory(peer)
    before = state(memory)
    with pytest.raises(error, match=f"ContrastMemory: {message}"):
        memory(*spoil(draw.unit(), draw.unit(), *draw.indices()))
    assert all(map(torch.equal, state(memory).values(), before.values()))


@BOTH
def test_bad_input(peer):
    for shape in ((3,), (3, 4, 2), (0, 4), (3, 0)):
        with pytest.raises(ValueError, match=r"ContrastLoss: x must be \(N, K \+ 1\) or"):
            peer.ContrastLoss(10)(torch.ones(shape))
    for probs in (
        torch.ones(0),
        torch.ones(2, 2),
        torch.tensor([0.5, -0.1]),
        torch.tensor([torch.nan]),
    ):
        with pytest.raises(ValueError, match=r"AliasMethod: probs must be \(K,\) probabilities"):
            peer.AliasMethod(probs)
    with pytest.raises(ValueError, match="Embed: x must have 6 entries a sample, got shape"):
        peer.Embed(6, 2)(torch.ones(3, 5))
    with pytest.raises(ValueError, match=r"Normalize: x must be \(N, D\) features"):
        peer.Normalize()(torch.ones(3))


@BOTH
def test_int32_indices(peer):
    draw = Draw(0)
    memory, (y, idx) = draw.memory(peer), draw.indices()
    again, leaves = copy.deepcopy(memory), [draw.unit(), draw.unit()]
    assert all(map(torch.equal, memory(*leaves, y.int(), idx.int()), again(*leaves, y, idx)))
