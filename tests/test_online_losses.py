"""The online losses' edges: one peer, one row, no row, no label; and what they refuse."""

import re

import pytest
import torch

from kdops import metrics, nn

from .cases import generator


def logits(count=3, rows=4, classes=5, dtype=torch.float32, seed=0):
    return torch.randn((count, rows, classes), generator=generator(seed)).to(dtype)


def shares(count, rows):
    return torch.rand((rows, count, count), generator=generator(2)).softmax(-1)


def one(z, y, **options):
    return nn.GatedEnsembleLoss(**options)(z, shares(len(z), len(y))[:, 0], y)


def okddip(z, y, **options):
    """The last one leads."""
    count = len(z) - 1
    return nn.OKDDipLoss(**options)(z[:-1], z[-1], shares(count, len(y)) if count else None, y)


LOSSES = {
    "DML": lambda z, y, **o: nn.MutualKLLoss(**o)(z, y).sum(),
    "DML, a turn": lambda z, y, **o: nn.MutualKLLoss(**o)(z, y, student=0),
    "DCM": lambda z, y, **o: nn.DenseMutualLoss(range(len(z)), **o)(z, y),
    "CL": lambda z, y, **o: nn.CollaborativeLoss(**o)(z, y),
    "CL, cross-entropy": lambda z, y, **o: nn.CollaborativeLoss(divergence="cross_entropy", **o)(
        z, y
    ),
    "ONE": one,
    "KDCL min-logit": lambda z, y, **o: nn.KDCLLoss(**o)(z, y),
    "KDCL naive": lambda z, y, **o: nn.KDCLLoss(rule="naive", **o)(z, y),
    "KDCL naive, of the batch": lambda z, y, **o: nn.KDCLLoss(
        rule="naive", naive_scope="batch", **o
    )(z, y),
    "KDCL linear": lambda z, y, **o: nn.KDCLLoss(rule="linear", **o)(z, y),
    "KDCL mean": lambda z, y, **o: nn.KDCLLoss(rule="mean", **o)(z, y),
    "OKDDip": okddip,
    "OKDDip, probabilities": lambda z, y, **o: okddip(z, y, aggregate="probabilities", **o),
}
named = pytest.mark.parametrize("name", LOSSES)


def value_and_gradient(name, z, y, **options):
    z = z.clone().requires_grad_()
    value = LOSSES[name](z, y, **options)
    value.backward()
    return value.detach(), z.grad


@named
@pytest.mark.filterwarnings("ignore:mutual_kl. one peer", "ignore:mixture_kl. one peer")
@pytest.mark.parametrize("rows", [1, 4])
def test_one_peer(backend, name, rows):
    """There is nobody to learn from: the labels alone (ONE's ensemble has them once more)."""
    z, y = logits(1, rows), torch.arange(rows)
    value, gradient = value_and_gradient(name, z, y)
    ce = torch.nn.functional.cross_entropy(z[0], y).item()
    assert value.item() == pytest.approx(ce * (2 if name == "ONE" else 1), rel=1e-5)
    assert gradient.isfinite().all()


@named
def test_equal_peers(backend, name):
    """Soft terms and their gradient are 0: exactly, but for the labels subtracted first and the
    logarithm of a mixture of probabilities."""
    z = logits(1).expand(3, -1, -1).contiguous()
    if name == "CL, cross-entropy":
        return  # which has an entropy of its own
    y = torch.arange(4)
    value, gradient = value_and_gradient(name, z, y)
    plain, slope = (
        value_and_gradient(name, z, y, kd_weight=0.0)
        if name != "DCM"
        else (value_and_gradient(name, z, y, beta=0.0))
    )
    rtol = 1e-6 if "min" in name or "prob" in name or name in ("ONE", "OKDDip") else 0
    assert value.item() == pytest.approx(plain.item(), rel=rtol)
    torch.testing.assert_close(gradient, slope, rtol=0, atol=1e-6 if rtol else 1e-8)


@named
def test_rows_without_a_label(backend, name):
    """They count nowhere, whatever their logits; and no counted row at all is 0."""
    z, y = logits(), torch.tensor([0, -100, 2, -100])
    spoilt = z.clone()
    spoilt[:, 1::2] = torch.nan
    value, gradient = value_and_gradient(name, spoilt, y)
    few = LOSSES[name]  # the same rows alone, with the same gate and attention
    if "ONE" not in name and "OKDDip" not in name:
        assert value.item() == pytest.approx(few(z[:, 0::2], y[0::2]).item(), rel=1e-6)
    assert value.isfinite() and (gradient[:, 1::2] == 0).all() and (gradient[:, 0::2] != 0).any()
    value, gradient = value_and_gradient(name, spoilt, torch.full((4,), -100))
    assert value.item() == 0 and (gradient == 0).all()


@named
def test_no_rows(backend, name):
    value, gradient = value_and_gradient(name, logits(rows=0), torch.arange(0))
    assert value.item() == 0 and gradient.shape == (3, 0, 5)


@named
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types(backend, name, dtype):
    """Inside it is float32; logits of 4e4, a difference of which float16 has not, are finite."""
    z, y = logits(dtype=dtype), torch.arange(4)
    value, gradient = value_and_gradient(name, z, y)
    exact, _ = value_and_gradient(name, z.double(), y)
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    assert value.item() == pytest.approx(exact.item(), rel=2e-3 if "prob" in name else 2e-5)
    large = torch.where(z > 0, 4e4, -4e4).to(dtype)
    value, gradient = value_and_gradient(name, large, y)
    assert value.isfinite() and gradient.isfinite().all()


@named
def test_soft_labels(name):
    with pytest.raises(TypeError, match=r"target must be int64 or int32, got torch\.float32"):
        LOSSES[name](logits(), logits()[0].softmax(-1))


@named
def test_saturated_disagreement(backend, name):
    """Peers apart by 60 learn with a full gradient, which an added eps would take away."""
    z = torch.zeros(3, 2, 4)
    z[0, :, 0] = z[1, :, 1] = z[2, :, 2] = 60
    _, gradient = value_and_gradient(name, z, torch.tensor([3, 3]))
    assert gradient[: 1 if name == "DML, a turn" else 3].abs().amax((1, 2)).min() > 0.1


def test_list_of_peers(backend):
    """As a stacked tensor; a peer without gradient is a target alone."""
    z, y = logits(), torch.arange(4)
    for name in LOSSES:
        assert LOSSES[name](list(z), y).item() == pytest.approx(LOSSES[name](z, y).item()), name


BAD = {
    "peer_reduction must be": (ValueError, lambda z, y: nn.MutualKLLoss(peer_reduction="max")),
    "kd_weight must be finite": (ValueError, lambda z, y: nn.MutualKLLoss(kd_weight=-1.0)),
    "target must be given": (ValueError, lambda z, y: nn.MutualKLLoss()(z)),
    "student must be in 0..2": (ValueError, lambda z, y: nn.MutualKLLoss()(z, y, student=3)),
    "groups' 2 heads, got 3": (ValueError, lambda z, y: nn.DenseMutualLoss([0, 1])(z, y)),
    "mask must be 2 x 2": (ValueError, lambda z, y: nn.DenseMutualLoss([0, 1], mask=[[0, 1]])),
    "all peers' logits must have one shape": (
        ValueError,
        lambda z, y: nn.DenseMutualLoss([0, 1, 1])([*z[:2], z[2, :, 1:]], y),
    ),
    "beta must be in": (ValueError, lambda z, y: nn.CollaborativeLoss(beta=1.5)),
    "divergence must be": (ValueError, lambda z, y: nn.CollaborativeLoss(divergence="js")),
    "gate must be (4, 3)": (ValueError, lambda z, y: nn.GatedEnsembleLoss()(z, z[0], y)),
    "gate must be a tensor": (TypeError, lambda z, y: nn.GatedEnsembleLoss()(z, None, y)),
    "rule must be one of": (ValueError, lambda z, y: nn.KDCLLoss(rule="minlogit")),
    "naive_scope must be": (ValueError, lambda z, y: nn.KDCLLoss(naive_scope="row")),
    "weights must be given": (ValueError, lambda z, y: nn.KDCLLoss(rule="general")(z, y)),
    "weights must be (3,), one a net": (
        ValueError,
        lambda z, y: nn.KDCLLoss(rule="general")(z, y, torch.ones(2)),
    ),
    "weights must be a tensor": (
        TypeError,
        lambda z, y: nn.KDCLLoss(rule="general")(z, y, [0.2, 0.3, 0.5]),
    ),
    "weights must be None for rule 'mean'": (
        ValueError,
        lambda z, y: nn.KDCLLoss(rule="mean")(z, y, torch.ones(3)),
    ),
    "mixture_kl: target must be given": (ValueError, lambda z, y: nn.KDCLLoss()(z, None)),
    "aggregate must be": (ValueError, lambda z, y: nn.OKDDipLoss(aggregate="mean")),
    "grad_to must be": (ValueError, lambda z, y: nn.OKDDipLoss(grad_to="leader")),
    "attention must be (4, 2, 2)": (
        ValueError,
        lambda z, y: nn.OKDDipLoss()(z[:2], z[2], torch.ones(4, 2, 3), y),
    ),
    "attention must be": (TypeError, lambda z, y: nn.OKDDipLoss()(z[:2], z[2], None, y)),
    "m must be in 1..8, got 9": (ValueError, lambda z, y: nn.GeneralEnsembleWeights(9)),
    "m = 2 peers, got 3": (ValueError, lambda z, y: nn.GeneralEnsembleWeights(2).update(z, y)),
    "at most 8 peers, got 9": (ValueError, lambda z, y: nn.linear_ensemble_weights(logits(9), y)),
    "at least two peers, got 1": (ValueError, lambda z, y: metrics.peer_diversity(z[:1])),
    "at least one row": (ValueError, lambda z, y: metrics.peer_diversity(z[:, :0])),
    "must have one shape": (ValueError, lambda z, y: metrics.churn(z[0], z[1, 1:])),
    "must be float32": (TypeError, lambda z, y: metrics.churn(y, y)),
}


@pytest.mark.parametrize("text", BAD)
def test_bad_input(text):
    error, call = BAD[text]
    with pytest.raises(error, match=re.escape(text)):
        call(logits(), torch.arange(4))


def test_churn():
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0], [0.0, 0.0]])
    assert metrics.churn(a, a) == 0 and metrics.churn(a, -a) == 0.75  # of equal ones the first
    assert metrics.churn(a.view(2, 2, 2), a.flip(0).view(2, 2, 2)) == 0.5


def test_diversity():
    """0 for equal peers, sqrt 2 for certain ones that disagree, by all pairs of any number."""
    z = 1e3 * torch.eye(4)[:, None]
    assert metrics.peer_diversity(z).item() == pytest.approx(2**0.5)
    assert metrics.peer_diversity(z[:1].expand(3, 1, 4)).item() == 0
    p = logits(4, 6).softmax(-1)
    pairs = [(p[i] - p[j]).norm(dim=-1) for i in range(4) for j in range(i)]
    torch.testing.assert_close(metrics.peer_diversity(p.log()), torch.stack(pairs).mean())


def constant_weights(count, rows=40, classes=6, seed=0):
    """Peers of different skill."""
    target = torch.arange(rows) % classes
    z = torch.randn((count, rows, classes), generator=generator(seed), dtype=torch.float64)
    skill = torch.linspace(0.5, 2.0, count, dtype=torch.float64)[:, None, None]
    return z + skill * torch.nn.functional.one_hot(target, classes), target


def mixed_ce(z, w, target):
    return torch.nn.functional.cross_entropy((w[:, None, None] * z).sum(0), target)


@pytest.mark.parametrize("count", range(2, 9))
@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_linear_weights_are_the_least(count, scale):
    """The gap to the minimum is rounding: no corner is downhill from there."""
    z, target = constant_weights(count)
    z = z * scale
    w = nn.linear_ensemble_weights(z, target)
    assert w.min() >= 0 and w.sum().item() == pytest.approx(1, abs=1e-14)
    w.requires_grad_()
    (slope,) = torch.autograd.grad(mixed_ce(z, w, target), w)
    assert (w @ slope - slope.min()).item() <= 1e-11 * slope.abs().max().item() + 1e-16 * scale
    assert torch.equal(w, nn.linear_ensemble_weights(z, target))


def test_linear_weights_at_the_edges():
    z, target = constant_weights(3)
    assert nn.linear_ensemble_weights(z[:1], target).tolist() == [1]
    assert nn.linear_ensemble_weights(z, torch.full_like(target, -100)).tolist() == [1 / 3] * 3
    even = nn.linear_ensemble_weights(z[:1].expand(3, -1, -1), target)
    torch.testing.assert_close(even, torch.full((3,), 1 / 3, dtype=torch.float64))
    spoilt, some = z.clone(), torch.where(target == 0, -100, target)
    spoilt[:, target == 0] = torch.nan  # in rows that do not count
    kept = nn.linear_ensemble_weights(z[:, target != 0], target[target != 0])
    torch.testing.assert_close(nn.linear_ensemble_weights(spoilt, some), kept)
    assert nn.linear_ensemble_weights(spoilt, target).isnan().all()
    one = torch.tensor([1])
    far = torch.tensor([[[6e4, -6e4]], [[-6e4, 6e4]]], dtype=torch.float16)
    assert mixed_ce(far.double(), nn.linear_ensemble_weights(far, one), one).item() == 0
    masked = z.clone()
    masked[1, :, 5] = -torch.inf
    few = target != 5
    expected = nn.linear_ensemble_weights(z[:, few, :5], target[few])
    torch.testing.assert_close(nn.linear_ensemble_weights(masked[:, few], target[few]), expected)


@pytest.mark.parametrize("count", range(2, 9))
def test_general_weights_are_the_least(count):
    """Against corners and random weights; the free ones lie below the bounded ones."""
    z, target = constant_weights(count)
    fits = [nn.GeneralEnsembleWeights(count, ridge=0.0, nonneg=x) for x in (True, False)]
    for fit in fits:
        for part in (slice(0, 15), slice(15, 40)):
            fit.update(z[:, part], target[part])
    bounded, free = (fit.solve() for fit in fits)
    errors = fits[0].products / fits[0].rows
    slope = errors @ bounded
    assert bounded.min() >= 0 and bounded.sum().item() == pytest.approx(1, abs=1e-14)
    assert (bounded @ slope - slope.min()).item() <= 1e-13
    assert free.sum().item() == pytest.approx(1, abs=1e-12)
    assert (errors @ free).std().item() < 1e-12  # all derivatives are equal
    assert free @ errors @ free <= bounded @ errors @ bounded + 1e-15


def test_general_weights_at_the_edges():
    fit = nn.GeneralEnsembleWeights(2)
    with pytest.warns(UserWarning, match="no held-out row was given"):
        assert fit.solve().tolist() == [0.5, 0.5]
    z, target = constant_weights(1)
    for nonneg in (True, False):
        fit = nn.GeneralEnsembleWeights(2, nonneg=nonneg)
        fit.update([z[0], z[0]], target)
        assert fit.solve().tolist() == pytest.approx([0.5, 0.5])
        fit.reset()
        fit.update([1e4 * torch.eye(3)] * 2, torch.arange(3))  # no errors at all
        assert fit.solve().tolist() == [0.5, 0.5]
    fit = nn.GeneralEnsembleWeights(2, ridge=0.0, nonneg=False)
    fit.update([z[0], z[0]], target)
    with pytest.raises(RuntimeError, match="ridge must be > 0 for peers that make the same errors"):
        fit.solve()
