"""torchdistill's CRDLoss over batches: its memory, its draws, and what ours refuses."""

import copy

import pytest
import torch

from kdops.compat import torchdistill as ours

from .contrast_cases import Draw, state
from .torchdistill_cases import NORMALIZERS, outputs

theirs = pytest.importorskip(
    "torchdistill.losses.mid_level", reason="torchdistill is not installed"
)


def made(module, draw):
    torch.manual_seed(2)
    loss = module.CRDLoss(
        *NORMALIZERS, draw.width, draw.samples, draw.negatives, draw.samples, temperature=0.2
    )
    return loss.to(draw.dtype)


def batch(draw, **indices):
    """(student, teacher, their rows)"""
    y, idx = draw.indices()
    rows = draw.unit(), draw.unit()
    student, teacher = (outputs(normalizer=x) for x in rows)
    student["empty"] = {"input": {"pos_idx": y, "contrast_idx": idx, **indices}}
    return student, teacher, rows


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("seed", range(3))
def test_batch_after_batch(seed, dtype, tolerance):
    """Z stays as the first batch set it, rows move."""
    draw = Draw(seed, dtype)
    mine, peers = (made(module, draw) for module in (ours, theirs))
    for _ in range(4):
        student, teacher, rows = batch(draw)
        values = [loss(student, teacher) for loss in (mine, peers)]
        torch.testing.assert_close(*values, rtol=tolerance, atol=0)
        found, expected = (
            [*torch.autograd.grad(value, rows), *state(loss).values()]
            for value, loss in zip(values, (mine, peers), strict=True)
        )
        for a, b in zip(found, expected, strict=True):
            assert b.any() and (a - b).abs().max() <= 4 * tolerance * b.abs().max()


def test_without_contrast_idx():
    """1.1.5 asks for an attribute that it never sets; with it, the same draws from a seed."""
    draw = Draw(0)
    mine, peers = (made(module, draw) for module in (ours, theirs))
    student, teacher, _ = batch(draw)
    del student["empty"]["input"]["contrast_idx"]
    with pytest.raises(AttributeError, match="prob"):
        peers(student, teacher)
    peers.prob = peers.probs
    values = []
    for loss in (mine, peers):
        torch.manual_seed(4)
        values.append(loss(student, teacher))
    torch.testing.assert_close(*values, rtol=1e-9, atol=0)


def test_params_keep_no_graph():
    """There they ask for a gradient from the first batch on, which keeps its graph."""
    draw = Draw(0)
    student, teacher, _ = batch(draw)
    mine, peers = (made(module, draw) for module in (ours, theirs))
    for loss in (mine, peers):
        loss(student, teacher)
    assert peers.params.requires_grad and not mine.params.requires_grad
    copy.deepcopy(mine)


def test_bad_batches():
    draw = Draw(0)
    loss = made(ours, draw)
    before = state(loss)
    wrong = {
        "pos_idx must be a tensor, got NoneType": {"pos_idx": None},
        "pos_idx must have the shape": {"pos_idx": torch.arange(2)},
        "pos_idx must be in .* got 99": {"pos_idx": torch.full((draw.rows,), 99)},
        "contrast_idx must have the shape": {"contrast_idx": torch.ones(draw.rows, 1).long()},
    }
    for message, indices in wrong.items():
        with pytest.raises((TypeError, ValueError, IndexError), match=f"CRDLoss: {message}"):
            loss(*batch(draw, **indices)[:2])
    student, teacher, _ = batch(draw)
    with pytest.raises(ValueError, match="CRDLoss: student and teacher must have the same number"):
        loss(student, outputs(normalizer=teacher["normalizer"]["output"][1:]))
    with pytest.raises(KeyError, match="input of module 'empty'"):
        loss(teacher, teacher)
    assert all(map(torch.equal, state(loss).values(), before.values()))
