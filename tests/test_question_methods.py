"""The losses that docs/questions.md tries because no paper has them."""

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra kdops[train]")

import kdops
from kdops.methods.online import ONE
from kdops.studies.question_methods import EvenONE, RawDistances, SoftEdges
from kdops.taps import Outputs

from .cases import generator


def outputs(width, seed):
    g = generator(seed)
    embedding = torch.randn(6, width, dtype=torch.float64, generator=g).requires_grad_(seed == 0)
    logits = torch.randn(6, 4, dtype=torch.float64, generator=g).requires_grad_(seed == 0)
    return Outputs(logits, {"embedding": embedding})


def test_soft_edges():
    student, teacher, target = outputs(5, 0), outputs(7, 1), torch.arange(6) % 4
    found = SoftEdges(weight=2.0, edge_temperature=0.3).terms(student, teacher, target)[
        "soft edges"
    ]
    expected = 0
    maps = [
        torch.cdist(x, x).square() for x in (s.features["embedding"] for s in (student, teacher))
    ]
    for i in range(6):
        others = [j for j in range(6) if j != i]
        q, p = (torch.softmax(-m[i, others] / (0.3 * m.max()), 0) for m in maps)
        expected = expected - 2.0 / 6 * (p * q.log()).sum()
    torch.testing.assert_close(found, expected)
    x = student.features["embedding"]
    torch.testing.assert_close(*(torch.autograd.grad(y, x)[0] for y in (found, expected)))


def test_raw_distances():
    student, teacher, target = outputs(5, 0), outputs(7, 1), torch.arange(6) % 4
    found = RawDistances(weight=2.0).terms(student, teacher, target)["raw distances"]
    u = torch.cdist(*[student.features["embedding"]] * 2) - torch.cdist(
        *[teacher.features["embedding"]] * 2
    )
    huber = torch.where(u.abs() < 1, u.square() / 2, u.abs() - 0.5)
    torch.testing.assert_close(found, 2.0 * huber.mean())
    scaled = Outputs(student.logits, {"embedding": 3 * student.features["embedding"]})
    assert RawDistances().terms(scaled, teacher, target)["raw distances"] > found
    normal = kdops.rkd_distance_loss
    x, y = student.features["embedding"], teacher.features["embedding"]
    torch.testing.assert_close(normal(3 * x, y), normal(x, y))


def test_even_one():
    """ONE without its gate: the ensemble is the mean of the branches' logits."""
    logits = tuple(outputs(3, seed).logits for seed in range(3))
    target = torch.arange(len(logits[0])) % logits[0].shape[1]
    even, gated = EvenONE(ramp=None), ONE(ramp=None)
    gated.gates.append(torch.nn.Identity())
    gated.gate = lambda peers: torch.full((len(target), 3), 1 / 3)
    peers = Outputs(logits, {})
    torch.testing.assert_close(even(peers, target), gated(peers, target))
