"""CRD of Knowledge-Distillation-Zoo: state, values, gradients, memory, and what it refuses."""

import copy

import pytest
import torch

from kdops.compat import kd_zoo

from . import published_contrast as published
from .contrast_cases import Draw, state
from .parity import TOLERANCES
from .test_contrast import DRAWS, DTYPES, close, exact, same
from .test_contrast_edges import changed

EMBEDDINGS = [f"embed_{net}.linear.{name}" for net in "st" for name in ("weight", "bias")]
BANKS = ["memory_t", "memory_s"]


def made(draw, temperature=0.1):
    sizes = draw.width, draw.negatives, temperature, 0.3, draw.samples
    return kd_zoo.CRD(6, 10, *sizes).to(draw.dtype)


def batch(draw):
    """(features of both nets, their samples, the rows compared with)"""
    return draw.normal(draw.rows, 6), draw.normal(draw.rows, 2, 5), *draw.indices()


def memory(loss) -> dict:
    """As the published form has it: of the student, then of the teacher."""
    held = loss.contrast
    z = [-1.0 if x is None else x for x in (held.Z_s, held.Z_t)]
    params = torch.tensor([held.N, held.T, *z, held.momentum], dtype=torch.float64)
    banks = state(held)
    return {"params": params, "memory_v1": banks["memory_s"], "memory_v2": banks["memory_t"]}


@DRAWS
@DTYPES
def test_batch_after_batch(seed, dtype):
    """The first sets Z, later ones do not; gradients of both embeddings; the memory after each."""
    draw = Draw(seed, dtype)
    loss, tolerance = made(draw), TOLERANCES[dtype]
    for step in range(3):
        before, weights = memory(loss), list(loss.parameters())
        *features, idx, sample_idx = batch(draw)
        peers, copies = exact(*features), exact(*weights)
        value = loss(*features, idx, sample_idx)
        expected, after = published.CRDLoss(
            [copies[:2], copies[2:]], before, draw.samples, *peers, idx, sample_idx
        )
        assert value.shape == () and len(weights) == 4
        leaves = [*features, *weights], [*peers, *copies]
        same([value], leaves[0], expected, leaves[1], tolerance)
        found = memory(loss)
        close(found.values(), after.values(), tolerance)
        rest = torch.ones(draw.samples, dtype=torch.bool)
        rest[idx] = False
        for name in ("memory_v1", "memory_v2"):
            assert torch.equal(found[name][rest], before[name][rest])
            assert not torch.isclose(found[name][idx], before[name][idx]).all(1).any()
        assert step == 0 or torch.equal(found["params"], before["params"])


def test_state_and_first_values():
    draw = Draw(0, torch.float32)
    torch.manual_seed(3)
    loss = made(draw)
    torch.manual_seed(3)
    layers = [torch.nn.Linear(6, draw.width), torch.nn.Linear(10, draw.width)]
    bound = 1 / (draw.width / 3) ** 0.5
    banks = [
        torch.rand(draw.samples, draw.width).mul_(2 * bound).add_(-bound) for _ in BANKS
    ]  # the teacher's first
    expected = [x for layer in layers for x in (layer.weight, layer.bias)] + banks
    found = loss.state_dict()
    assert list(found) == [*EMBEDDINGS, *(f"contrast.{name}" for name in BANKS)]
    assert all(map(torch.equal, found.values(), expected))
    assert [name for name, _ in loss.named_parameters()] == EMBEDDINGS


def test_a_loaded_loss_sets_its_constants_anew():
    """They are no part of the state, in the zoo neither."""
    draw = Draw(1)
    loss, again = made(draw), made(draw)
    *first, idx, sample_idx = batch(draw)
    assert loss.contrast.Z_s is None and loss.contrast.Z_t is None
    loss(*first, idx, sample_idx)
    again.load_state_dict(loss.state_dict())
    assert again.contrast.Z_s is None and again.contrast.Z_t is None
    copied = copy.deepcopy(loss)
    second = batch(draw)
    assert torch.equal(loss(*second), copied(*second))
    assert not torch.isclose(again(*second), copied.eval()(*second))


def test_the_constants_are_set_apart():
    """One that is given stays."""
    draw = Draw(1)
    loss = made(draw)
    loss.contrast.Z_t = 2.0
    expected, _ = published.CRDLoss(
        [[x.detach() for x in pair.parameters()] for pair in (loss.embed_s, loss.embed_t)],
        memory(loss),
        draw.samples,
        *(given := batch(draw)),
    )
    torch.testing.assert_close(loss(*given), expected[0], rtol=1e-9, atol=0)
    assert loss.contrast.Z_t == 2.0 and loss.contrast.Z_s > 0


def test_one_sample():
    """There squeeze() takes the samples' dimension too, an error."""
    draw = Draw(0)
    loss = made(draw)
    value = loss(*(x[:1] for x in batch(draw)))
    assert value.shape == () and value.isfinite()


def test_a_zero_embedding():
    draw = Draw(0)
    loss = made(draw)
    *features, idx, sample_idx = batch(draw)
    with torch.no_grad():
        loss.embed_s.linear.bias.zero_()
        features[0][1] = 0
    loss(*features, idx, sample_idx).backward()
    gradient = features[0].grad
    assert not gradient[1].any() and gradient[0].any() and gradient.isfinite().all()
    assert all(x.isfinite().all() for x in loss.state_dict().values())
    row = torch.zeros(1, 3, requires_grad=True)
    torch.nn.functional.normalize(row).sum().backward()
    assert row.grad.max() > 1e11


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_computed_in_float32(dtype):
    draw = Draw(2, torch.float32)
    loss = made(draw)
    again = copy.deepcopy(loss)
    *features, idx, sample_idx = batch(draw)
    features = [x.to(dtype) for x in features]
    value = loss(*features, idx.int(), sample_idx.int())
    assert value.dtype == torch.float32
    assert torch.equal(value, again(*(x.float() for x in features), idx, sample_idx))


WRONG = [
    (TypeError, r"Embed: x must be a tensor, got list", lambda s, t, y, i: ([1.0], t, y, i)),
    (ValueError, r"Embed: x must have 6 entries", lambda s, t, y, i: (s[:, 1:], t, y, i)),
    (ValueError, r"Embed: x must have 10 entries", lambda s, t, y, i: (s, t[:, 1:], y, i)),
    (ValueError, r"CRD: feat_s must be .* \(0, ", lambda s, t, y, i: (s[:0], t[:0], y[:0], i[:0])),
    (ValueError, r"CRD: feat_s and feat_t must have the same", lambda s, t, y, i: (s, t[1:], y, i)),
    (ValueError, r"CRD: idx must have the shape \(\d,\)", lambda s, t, y, i: (s, t, y[1:], i)),
    (ValueError, r"CRD: sample_idx must have the shape", lambda s, t, y, i: (s, t, y, i[:, 1:])),
    (TypeError, r"CRD: idx must be int64 or int32", lambda s, t, y, i: (s, t, y.double(), i)),
    (TypeError, r"CRD: sample_idx must be a tensor", lambda s, t, y, i: (s, t, y, None)),
    (IndexError, r"CRD: idx .* got 99", lambda s, t, y, i: (s, t, changed(y, 1, 99), i)),
    (IndexError, r"CRD: sample_idx .* got -1", lambda s, t, y, i: (s, t, y, changed(i, 5, -1))),
]  # fmt: skip


@pytest.mark.parametrize("error, message, spoil", WRONG)
def test_bad_batches(error, message, spoil):
    """Nothing is written."""
    draw = Draw(0)
    loss = made(draw)
    before = state(loss)
    with pytest.raises(error, match=message):
        loss(*spoil(*batch(draw)))
    assert all(map(torch.equal, state(loss).values(), before.values()))
    assert loss.contrast.Z_s is None and loss.contrast.Z_t is None
