"""Options of the online losses and methods one by one: what each changes, what is not spent."""

import pytest
import torch

import kdops
from kdops import nn
from kdops.methods import online

from .cases import generator
from .test_online_methods import LAYERS, batch, make_net


def logits(count=4, rows=6, classes=5):
    return torch.randn((count, rows, classes), generator=generator()).double()


def cross_entropies(z, y):
    return torch.stack([torch.nn.functional.cross_entropy(x, y) for x in z])


def test_nothing_is_spent_on_others(monkeypatch):
    """Of one net's turn: no KL and no gradient of the others is asked for."""
    asked = {}

    def spy(logits, target, **options):
        asked.update(logits=logits, **options)
        return mutual_kl(logits, target, **options)

    mutual_kl = kdops.mutual_kl
    monkeypatch.setattr(nn.mutual.F, "mutual_kl", spy)
    z = [x.requires_grad_() for x in logits(3).unbind()]
    nn.MutualKLLoss()(z, torch.arange(6) % 5, student=1)
    assert [x.requires_grad for x in asked["logits"]] == [False, True, False]
    assert asked["weights"] == [[0, 0, 0], [0.5, 0, 0.5], [0, 0, 0]]
    assert asked["ce_weight"] == [0, 1, 0]


def test_labels_of_auxiliary_heads():
    """alpha for all heads but the last of each net; beta for the KLs; a mask for whom from whom."""
    z, y, groups = logits(), torch.arange(6) % 5, [0, 0, 1, 1]
    ce, soft = cross_entropies(z, y), nn.DenseMutualLoss(groups, alpha=0.0)(z, y)
    soft = soft - ce[1] - ce[3]
    found = nn.DenseMutualLoss(groups, alpha=0.25, beta=3.0, ce_weight=2.0)(z, y)
    expected = 2 * (ce[1] + ce[3] + 0.25 * (ce[0] + ce[2])) + 3 * soft
    torch.testing.assert_close(found, expected)
    mask = [[0, 0, 1, 0], [0, 0, 0, 0.5], [0] * 4, [0] * 4]
    found = nn.DenseMutualLoss(groups, mask=mask, ce_weight=0.0)(z, y)
    pairs = [(0, 2, 1.0), (1, 3, 0.5)]
    expected = sum(w * kdops.kd_loss(z[i], z[j], temperature=1.0) for i, j, w in pairs)
    torch.testing.assert_close(found, expected)


def test_entropies_of_half_types():
    """The mean of the other heads' logits is in float32, as that of the KL is."""
    z, y = 9 * logits().bfloat16(), torch.arange(6) % 5
    loss = nn.CollaborativeLoss(divergence="cross_entropy", ce_weight=0.0)
    torch.testing.assert_close(loss(z, y).double(), loss(z.double(), y), rtol=1e-6, atol=0)


def test_weights_are_constants():
    z, y = logits(2), torch.arange(6) % 5
    weights = torch.tensor([0.4, 0.6], requires_grad=True)
    z.requires_grad_()
    nn.KDCLLoss(rule="general", detach_target=False)(z, y, weights).backward()
    assert weights.grad is None and z.grad is not None


@pytest.mark.parametrize("spread", [0.1, 1.0, 10.0])
def test_min_logit_is_the_surest(spread):
    """Its cross-entropy is at most the best net's, row by row; linear's the best net's, in all."""
    z, y = spread * logits(), torch.arange(6) % 5
    options = {"kd_weight": 0.0, "ensemble_ce_weight": 1.0}
    rows = kdops.mixture_kl(z, y, rule="min_logit", reduction="none", **options)
    each = torch.stack([torch.nn.functional.cross_entropy(x, y, reduction="none") for x in z])
    assert (rows <= each.amin(0) + 1e-12).all()
    w = nn.linear_ensemble_weights(z, y)[None]
    assert kdops.mixture_kl(z, y, weights=w, **options) <= cross_entropies(z, y).min() + 1e-12


def stem_gradient(rescale):
    method = online.Collaborative(rescale=rescale)
    group = method.assemble(make_net, LAYERS)
    torch.manual_seed(0)  # the copies' weights
    for part in group.levels[1:]:
        for x in part.parameters():
            torch.nn.init.normal_(x, std=0.1)
    images, labels = batch()
    method(group(images), labels).backward()
    [stem] = group.levels[0]
    return torch.cat([x.grad.flatten() for x in stem.parameters()])


def test_forks_take_the_mean():
    """Two forks of two: a quarter of the sum of the heads' gradients in the stem."""
    torch.testing.assert_close(4 * stem_gradient(True), stem_gradient(False))


def test_sum_over_peers():
    """'sum' of the authors' code is K - 1 times the mean, of which the labels have no share."""
    z, y = logits(), torch.arange(6) % 5
    found = {x: nn.MutualKLLoss(peer_reduction=x)(z, y) for x in nn.mutual.PEER_REDUCTIONS}
    ce = cross_entropies(z, y)
    torch.testing.assert_close(found["sum"] - ce, 3 * (found["mean"] - ce))


def test_maps_for_attention():
    """OKDDip compares the means of feature maps."""
    method = online.OKDDip(embedding="early", based="network", reduction=2)
    group = method.assemble(make_net, {"early": "early"})
    images, labels = batch()
    peers = group(images)
    method.prepare(peers, None)
    expected = [x.mean((2, 3)) for x in peers.features["early"][:3]]
    torch.testing.assert_close(method.embeddings(peers), expected)
    assert method(peers, labels).isfinite()
