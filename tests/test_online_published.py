"""What the authors' codes compute: a small number added to probabilities, and how near that is.

The losses here have none, and keep the gradient where two peers are sure of different classes.
"""

import pytest
import torch

from kdops import nn

from .test_online_vectors import GATE, HEADS, LEADER, PEERS, attention, tensor

DOUBLE = torch.float64
Z = tensor(PEERS, DOUBLE)


def softened(student, aim, temperature):
    """ONE, OKDDip: targets of softmax + 1e-7, not normalised again."""
    q = (aim / temperature).softmax(-1) + 1e-7
    log_p = (student / temperature).log_softmax(-1)
    return temperature**2 * (q * (q.log() - log_p)).sum(-1).mean()


def inside_and_out(student, aim):
    """DML: 1e-8 in the quotient and in the logarithm."""
    p, q = aim.softmax(-1), student.softmax(-1)
    return (p * torch.log(1e-8 + p / (q + 1e-8))).sum(-1).mean()


def normalised(student, aim):
    """DCM: 1e-8 added to all probabilities, which are normalised again."""
    p, q = ((x.softmax(-1) + 1e-8) / (1 + x.shape[-1] * 1e-8) for x in (aim, student))
    return (p * (p.log() - q.log())).sum(-1).mean()


def one():
    gated = (tensor(GATE, DOUBLE).T[..., None] * Z).sum(0)
    return [softened(z, gated, 3.0) for z in Z]


def okddip():
    shares = attention(DOUBLE)
    mixed = [(shares[:, a].T[..., None] * Z).sum(0) for a in range(3)]
    peers = sum(softened(z, aim, 3.0) for z, aim in zip(Z, mixed, strict=True))
    return [peers, softened(tensor(LEADER, DOUBLE), Z.mean(0), 3.0)]


def dcm():
    heads = tensor(HEADS, DOUBLE)
    return [sum(normalised(a, b) + normalised(b, a) for a in Z[:2] for b in heads)]


PUBLISHED = {
    "ONE": (one, (0.292180576779, 0.299491918717, 0.469526923636)),
    "DML": (
        lambda: [inside_and_out(Z[0], Z[1]), inside_and_out(Z[1], Z[0])],
        (0.717659927331, 0.587154367451),
    ),
    "DCM": (dcm, (6.60466318733,)),
    "OKDDip": (okddip, (1.68105790661, 0.426291512728)),
}
EXACT = {
    "ONE": (0.292177694785, 0.299489152332, 0.469524201582),
    "DML": (0.717659993419, 0.587154393194),
    "DCM": (6.60466384139,),
    "OKDDip": (1.6810496769, 0.426288798728),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name):
    function, expected = PUBLISHED[name]
    found = [x.item() for x in function()]
    assert found == pytest.approx(expected, rel=1e-9)
    assert found == pytest.approx(EXACT[name], rel=2e-5)


def test_what_the_small_number_costs():
    """Two peers 60 apart: 18 in place of 60, and no gradient left of 1."""
    student = torch.tensor([[60.0, 0.0]], dtype=DOUBLE, requires_grad=True)
    aim = torch.tensor([[0.0, 60.0]], dtype=DOUBLE)
    found = {
        "published": inside_and_out(student, aim),
        "exact": nn.MutualKLLoss(ce_weight=0.0)([student, aim], student=0),
    }
    slopes = {name: torch.autograd.grad(x, student)[0].abs().max() for name, x in found.items()}
    assert found["published"].item() == pytest.approx(18.42, abs=0.01)
    assert found["exact"].item() == pytest.approx(60)
    assert slopes["published"] < 1e-17 and slopes["exact"].item() == pytest.approx(1)
