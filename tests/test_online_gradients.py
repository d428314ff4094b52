"""Gradients of the online losses: known ones, finite differences, and who gets one and who none."""

import pytest
import torch
from torch.autograd import grad, gradcheck

import kdops
from kdops import nn

from .cases import generator
from .test_online_vectors import (
    EMBEDDINGS,
    GATE,
    HEADS,
    KEY,
    LEADER,
    NET_LABELS,
    NETS,
    PEERS,
    QUERY,
    attention,
    labels,
    tensor,
)

DOUBLE = torch.float64
SOFT = {"ce_weight": 0.0}


def leaf(x):
    return tensor(x, DOUBLE).requires_grad_()


def learned(loss, logits=PEERS, target=None):
    """The gradient of all logits."""
    logits = leaf(logits)
    return grad(loss(logits, labels() if target is None else labels(target)).sum(), logits)[0]


def gate_gradient(detach):
    gate = leaf(GATE)
    loss = nn.GatedEnsembleLoss(detach_target=detach)
    return grad(loss(tensor(PEERS, DOUBLE), gate, labels()), gate)[0]


def attention_gradient():
    """Of the peers' KLs alone: the leader's have no share in it."""
    shares = attention(DOUBLE).requires_grad_()
    loss = nn.OKDDipLoss(**SOFT)(tensor(PEERS, DOUBLE), tensor(LEADER, DOUBLE), shares, labels())
    return grad(loss, shares)[0]


GRADIENTS = {
    "ONE, the gate": (
        lambda: gate_gradient(True),
        [
            [-0.6339216616949834, -0.1293068807347777, 0.07095981135684154],
            [-0.36498548202851866, 0.02118248450138374, 0],
        ],
    ),
    "ONE, the gate, through the targets": (
        lambda: gate_gradient(False),
        [
            [-0.8215316738687412, -0.14559254460822, 0.026011796890295813],
            [0.07310760441249543, -0.17958476788814715, 0],
        ],
    ),
    "CL": (
        lambda: learned(nn.CollaborativeLoss())[0, 0],
        [-0.0034114239777115196, 0.024020538771722222, -0.020609114794010727],
    ),
    "DML": (
        lambda: learned(nn.MutualKLLoss(**SOFT))[0],
        [
            [0.2735794726283426, -0.06420460318204918, -0.2093748694462934],
            [-0.07110805700613523, -0.2025818618155964, 0.27368991882173166],
        ],
    ),
    "KDCL min-logit": (
        lambda: learned(nn.KDCLLoss(**SOFT), NETS, NET_LABELS)[0, 0],
        [
            -0.0126244082204446,
            -0.00765709064642787,
            0.024925759108129587,
            -0.004644260241257321,
        ],
    ),
    "OKDDip, the attention": (
        lambda: attention_gradient()[0, 0],
        [-0.5752176607868258, -0.19844877855398685, 0.3077375052685475],
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient(backend, name):
    found, expected = GRADIENTS[name][0](), tensor(GRADIENTS[name][1], DOUBLE)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def random(*shape, seed=0):
    x = torch.randn(shape, generator=generator(seed), dtype=DOUBLE)
    return x.requires_grad_()


LIVE = {
    "DML": lambda z: nn.MutualKLLoss(temperature=2.0, detach_peers=False)(z, labels()),
    "CL": lambda z: nn.CollaborativeLoss(detach_target=False)(z, labels()),
    "CL, cross-entropy": lambda z: nn.CollaborativeLoss(
        detach_target=False, divergence="cross_entropy"
    )(z, labels()),
    "KDCL min-logit": lambda z: nn.KDCLLoss(detach_target=False)(z, labels()),
    "KDCL naive": lambda z: nn.KDCLLoss(rule="naive", detach_target=False)(z, labels()),
    "KDCL mean": lambda z: nn.KDCLLoss(rule="mean", detach_target=False)(z, labels()),
}


@pytest.mark.parametrize("name", LIVE)
def test_gradcheck_through_targets(backend, name):
    assert gradcheck(LIVE[name], random(3, 2, 4))


def test_gradcheck_of_one(backend):
    loss = nn.GatedEnsembleLoss(detach_target=False)
    assert gradcheck(lambda z, g: loss(z, g, labels()), (random(3, 2, 4), random(2, 3, seed=1)))


@pytest.mark.parametrize("aggregate", ["logits", "probabilities"])
def test_gradcheck_of_okddip(backend, aggregate):
    loss = nn.OKDDipLoss(aggregate=aggregate)

    def value(peers, leader, energies):
        return loss(peers, leader, energies.softmax(-1), labels())

    assert gradcheck(value, (random(3, 2, 4), random(2, 4, seed=1), random(2, 3, 3, seed=2)))


def constant_targets(logits, aims, **options):
    """sum_k T^2 KL(softmax(aim_k / T) || softmax(z_k / T)), each call a loss of its own."""
    return sum(kdops.kd_loss(z, aim, **options) for z, aim in zip(logits, aims, strict=True))


def means_of_others(z):
    return [(z.sum(0) - z[h]) / (len(z) - 1) for h in range(len(z))]


def mix(z, weights):
    """(N, K) weights."""
    return (weights.T[..., None] * z).sum(0)


def test_detached_targets(backend):
    """The gradient is that of the same loss against constants."""
    z, y = random(3, 2, 4), labels()
    still = z.detach()
    shares = torch.rand(2, 3, 3, generator=generator(2), dtype=DOUBLE)
    gate = shares[:, 0]
    attended = [mix(still, shares[:, a]) for a in range(3)] + [still.mean(0)]
    leader = random(2, 4, seed=1)
    pairs = {
        "CL": (
            nn.CollaborativeLoss(beta=0.0, scale_t2=True)(z, y),
            constant_targets(z, means_of_others(still), temperature=2.0),
        ),
        "ONE": (
            nn.GatedEnsembleLoss(ce_weight=0.0)(z, gate, y),
            constant_targets(z, [mix(still, gate)] * 3, temperature=3.0),
        ),
        "KDCL": (
            nn.KDCLLoss(rule="mean", **SOFT)(z, y),
            constant_targets(z, [still.mean(0)] * 3, temperature=2.0),
        ),
        "OKDDip": (
            nn.OKDDipLoss(grad_to="none", **SOFT)(z, leader, shares, y),
            constant_targets([*z, leader], attended, temperature=3.0),
        ),
        "DML": (
            nn.MutualKLLoss(**SOFT)(z).sum(),
            sum(
                constant_targets(
                    [z[i]] * 2, [still[j] for j in range(3) if j != i], temperature=1.0
                )
                / 2
                for i in range(3)
            ),
        ),
    }
    for name, (value, expected) in pairs.items():
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=0, msg=name)
        torch.testing.assert_close(*(grad(x, z)[0] for x in (value, expected)), msg=name)


def test_students_turn(backend):
    """Peer i alone learns, the same as when all do; the others get no gradient at all."""
    together = [leaf(x) for x in PEERS]
    losses = nn.MutualKLLoss()(together, labels())
    losses.sum().backward()
    for i in range(3):
        peers = [leaf(x) for x in PEERS]
        loss = nn.MutualKLLoss()(peers, labels(), student=i)
        loss.backward()
        assert loss.item() == losses[i].item()
        assert [x.grad is None for x in peers] == [j != i for j in range(3)]
        assert torch.equal(peers[i].grad, together[i].grad)


def test_no_gradient_through_others(backend):
    """Of one net's heads in DCM, by the other net's losses alone."""
    heads = [leaf(x) for x in PEERS[:2] + HEADS]
    mask = [[0, 0, 1, 1], [0, 0, 1, 1], [0] * 4, [0] * 4]
    loss, terms = nn.DenseMutualLoss([0, 0, 1, 1], mask=mask)(heads, labels(), return_terms=True)
    second = grad(loss, heads[2:])
    for head, found in zip(heads[2:], second, strict=True):
        (alone,) = grad(torch.nn.functional.cross_entropy(head, labels()), head)
        torch.testing.assert_close(found, alone)
    assert (terms["kl"] > 0).tolist() == [True, True, False, False]


def diverse(**options):
    """Gradients of peers, leader, W and W' by the soft terms."""
    peers, leader, query, key = map(leaf, (PEERS, LEADER, QUERY, KEY))
    h = tensor(EMBEDDINGS, DOUBLE)
    shares = (h @ query.T @ (h @ key.T).mT).softmax(-1)
    loss = nn.OKDDipLoss(**SOFT, **options)(peers, leader, shares, labels())
    return grad(loss, (peers, leader, query, key), allow_unused=True)


@pytest.mark.parametrize("aggregate", ["logits", "probabilities"])
def test_who_gets_okddips_gradient(backend, aggregate):
    """'attention' is 'none' for the logits and 'all' for the attention; the leader is alike."""
    everything, only, nothing = (
        diverse(grad_to=grad_to, aggregate=aggregate) for grad_to in ("all", "attention", "none")
    )
    assert nothing[2] is None and nothing[3] is None
    torch.testing.assert_close(only[0], nothing[0])
    for a, b in zip(only[1:], everything[1:], strict=True):
        torch.testing.assert_close(a, b)
    assert (everything[0] - only[0]).norm() > 0.1
    torch.testing.assert_close(everything[1], nothing[1])


def test_sizes_of_okddips_gradients(backend):
    """What is lost by detaching: the attention's, the leader's pull on peers, the peers' own."""
    everything, nothing = diverse(grad_to="all"), diverse(grad_to="none")
    assert everything[2].norm().item() == pytest.approx(0.533, abs=5e-4)
    peers, leader = leaf(PEERS), tensor(LEADER, DOUBLE)
    value = kdops.kd_loss(leader, peers.mean(0), temperature=3.0, teacher_grad=True)
    (pull,) = grad(value, peers)
    assert pull.norm().item() == pytest.approx(0.226, abs=5e-4)
    extra = (everything[0] - nothing[0] - pull).norm() / nothing[0].norm()
    assert extra.item() == pytest.approx(0.625, abs=5e-4)


def test_sizes_of_the_others(backend):
    """What a forgotten detach adds to DML and to CL."""

    def norms(make, **options):
        detached, live = (learned(make(x, **options)) for x in (True, False))
        return detached, live, live.norm() / detached.norm()

    for temperature, ratio in ((1.0, 1.84), (3.0, 2.02)):
        options = {"temperature": temperature, **SOFT}
        *_, found = norms(lambda x, **o: nn.MutualKLLoss(detach_peers=x, **o), **options)
        assert found.item() == pytest.approx(ratio, abs=5e-3)
    detached, live, _ = norms(
        lambda x: nn.CollaborativeLoss(detach_target=x, divergence="cross_entropy")
    )
    change = (live - detached).norm() / detached.norm()
    assert change.item() == pytest.approx(0.105, abs=5e-4)


def test_mean_of_probabilities(backend):
    """KL to the mean of the others' probabilities: another value, the gradient of the mean KL."""
    z = leaf(PEERS)
    p = z.detach().softmax(-1)
    aims = [((p.sum(0) - p[i]) / 2).log() for i in range(3)]
    value = constant_targets(z, aims, temperature=1.0)
    assert value.item() == pytest.approx(1.95036970411, rel=1e-9)
    torch.testing.assert_close(grad(value, z)[0], learned(nn.MutualKLLoss(**SOFT)))
