"""The formulas that docs/questions.md answers with, in float64."""

import math

import pytest
import torch
from torch import nn

import kdops
from kdops.schedules import CriticalPeriod

from .cases import generator


def rows(*size, seed=0):
    return torch.randn(*size, dtype=torch.float64, generator=generator(seed))


def gradient(loss, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(loss(x), x)[0]


def centred(z):
    return z - z.mean(1, keepdim=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 1e4])
def test_soft_targets_ask_for_every_class(temperature):
    student, teacher = rows(6, 10), rows(6, 10, seed=1)
    found = gradient(lambda z: kdops.kd_loss(z, teacher, temperature=temperature), student)
    p, q = (torch.softmax(z / temperature, 1) for z in (teacher, student))
    torch.testing.assert_close(found, temperature * (q - p) / 6)
    if temperature == 1e4:
        limit = centred(student - teacher) / (10 * 6)
        torch.testing.assert_close(found, limit, rtol=1e-3, atol=1e-6)


def test_soft_targets_tend_to_centred_logits():
    student, teacher = rows(6, 10), rows(6, 10, seed=1)
    limit = centred(student - teacher).square().sum(1).mean() / (2 * 10)
    found = kdops.kd_loss(student, teacher, temperature=1e4)
    torch.testing.assert_close(found, limit, rtol=1e-3, atol=0)
    shifted = kdops.kd_loss(student + rows(6, 1), teacher, temperature=1e4)
    torch.testing.assert_close(shifted, found, rtol=1e-6, atol=0)  # no softmax sees the mean


def spread_of_gradients(depth: int, width=16, draws=200) -> float:
    """Deviation of log |gradient| at the input of thin ReLU nets with He's initial weights."""
    lengths = []
    for draw in range(draws):
        x = rows(1, width, seed=draw).requires_grad_()
        z = x
        for layer in range(depth):
            weights = rows(width, width, seed=1000 + 100 * draw + layer) * math.sqrt(2 / width)
            z = (z @ weights).relu()
        upstream = rows(1, width, seed=draw + 500)
        lengths.append(torch.autograd.grad((z * upstream).sum(), x)[0].norm())
    lengths = torch.stack(lengths)
    return lengths[lengths > 0].log().std().item()


def test_gradients_of_deep_thin_nets_spread():
    shallow, deep = spread_of_gradients(10), spread_of_gradients(20)
    assert 1.25 < deep / shallow < 1.6


def rotated(x):
    rotation = torch.linalg.qr(rows(x.shape[1], x.shape[1], seed=9))[0]
    return 3.0 * x @ rotation + 7.0


@pytest.mark.parametrize("name", ["irg_edge_loss", "rkd_distance_loss", "rkd_angle_loss"])
def test_relations_do_not_see_rotation_shift_and_scale(name):
    loss, student, teacher = getattr(kdops, name), rows(9, 5), rows(9, 7, seed=1)
    torch.testing.assert_close(loss(rotated(student), teacher), loss(student, teacher))
    assert kdops.hint_loss(rotated(student), student) > 1


def test_one_to_many_is_a_sum():
    layers, teacher = [rows(9, 5), rows(9, 3, seed=1)], rows(9, 7, seed=2)
    found = kdops.irg_edge_loss(layers, teacher)
    maps = [
        torch.cdist(x, x).square() / torch.cdist(x, x).square().max() for x in (*layers, teacher)
    ]
    expected = sum((own - maps[-1]).square().mean() for own in maps[:-1])
    torch.testing.assert_close(found, expected)


def test_cross_entropy_has_the_gradient_of_the_kl():
    student, teacher = rows(6, 10), rows(6, 10, seed=1)
    losses = (kdops.kd_loss, kdops.soft_cross_entropy)
    ours, theirs = (
        gradient(lambda z, f=f: f(z, teacher, temperature=2.0), student) for f in losses
    )
    torch.testing.assert_close(ours, theirs)


def test_angles_follow_from_distances():
    x = rows(7, 5)
    d = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    first, second, third = d[:, :, None], d[:, None, :], d[None]
    cosine = (first**2 + second**2 - third**2) / (2 * first * second)
    found = kdops.triplet_angle(x)
    there = torch.isfinite(cosine)
    torch.testing.assert_close(found[there], cosine[there], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["rkd_distance_loss", "rkd_angle_loss"])
def test_relations_do_not_know_the_classes(name):
    logits = rows(12, 10)
    permuted = logits.roll(1, dims=1)
    assert getattr(kdops, name)(permuted, logits).item() == pytest.approx(0, abs=1e-20)
    assert (permuted.argmax(1) != logits.argmax(1)).all()


def share_of_one_class(counts):
    """Of a batch's ordered pairs, those of one class."""
    total = sum(counts)
    return sum(n * (n - 1) for n in counts) / (total * (total - 1))


def test_shares_of_pairs_of_one_class():
    assert 64 * 63 == 4032 and round(4032 / 100) == 40
    labels = torch.randint(10, (400, 64), generator=generator(0))
    random = [share_of_one_class(torch.bincount(row).tolist()) for row in labels]
    assert sum(random) / len(random) == pytest.approx(0.10, abs=0.003)
    assert share_of_one_class([4] * 16) == pytest.approx(3 / 63) == pytest.approx(0.048, abs=5e-4)
    assert share_of_one_class([8] * 6 + [4] * 4) == pytest.approx(0.095, abs=5e-4)  # k = 4
    assert share_of_one_class([16] * 4) == pytest.approx(15 / 63) == pytest.approx(0.24, abs=5e-3)


@pytest.mark.parametrize(("order", "value"), [(1, 0.809), (2, 0.953), (3, 0.991)])
def test_taylor_form_of_rows_of_length_1(order, value):
    x, gamma = nn.functional.normalize(rows(8, 5)), 0.4
    products = x @ x.T
    terms = [(2 * gamma) ** p / math.factorial(p) * products**p for p in range(order + 1)]
    found = kdops.rbf_correlation(rows(8, 5), gamma=gamma, order=order)
    torch.testing.assert_close(found, math.exp(-2 * gamma) * sum(terms))
    assert found.diagonal().mean().item() == pytest.approx(value, abs=5e-4)
    exact = torch.exp(-gamma * torch.cdist(x, x).square())
    torch.testing.assert_close(kdops.rbf_correlation(rows(8, 5), gamma=gamma, order=None), exact)


def test_hidden_layers_fall_below_the_last_at_epoch_13():
    hidden = [CriticalPeriod()(epoch, 2)[0] for epoch in (12, 13)]
    assert hidden[0] > 1 > hidden[1]


def test_mean_of_kls_and_kl_with_the_mean_have_one_gradient():
    """DML, its ensemble form and codistillation: the values differ by mean_j KL(p_j || mean p)."""
    own, *others = (rows(6, 5, seed=i) for i in range(4))
    mean = torch.stack([x.softmax(1) for x in others]).mean(0)

    def of_pairs(z):
        return kdops.mutual_kl([z, *others], weights=[[0, 1 / 3, 1 / 3, 1 / 3], *[[0] * 4] * 3])[0]

    def of_mean(z):
        return kdops.kd_loss(z, mean.log(), temperature=1.0)

    torch.testing.assert_close(gradient(of_pairs, own), gradient(of_mean, own))
    apart = sum(kdops.kd_loss(mean.log(), x, temperature=1.0) for x in others) / 3
    torch.testing.assert_close(of_pairs(own) - of_mean(own), apart)


def test_the_mean_of_logits_is_the_normalised_geometric_mean_of_probabilities():
    logits = rows(3, 6, 5)
    geometric = logits.softmax(2).log().mean(0).exp()
    torch.testing.assert_close(
        logits.mean(0).softmax(1), geometric / geometric.sum(1, keepdim=True)
    )


def test_the_lowest_weight_of_a_gate_of_three():
    assert torch.tensor([0.0, 2.0, 2.0]).softmax(0)[0] > 0.06


@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_a_rate_times_h_takes_a_division_by_h_back(decay):
    """Bit by bit without weight decay, which does not know of H and is multiplied too."""
    ends = []
    for factor, rate in ((1.0, 0.125), (0.25, 0.5)):
        weight = rows(5).requires_grad_()
        optimizer = torch.optim.SGD([weight], rate, momentum=0.5, weight_decay=decay)
        for step in range(5):
            optimizer.zero_grad()
            (factor * (weight - rows(5, seed=step)).square().sum()).backward()
            optimizer.step()
        ends.append(weight.detach())
    assert torch.equal(*ends) == (decay == 0)
