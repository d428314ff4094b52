"""Codistillation: its loss by the sheet's numbers, stale copies, burn-in, shards, resumption."""

import copy
import warnings

import pytest
import torch
from torch import nn

from kdops.methods.online import Codistillation
from kdops.nn import CodistillationLoss
from kdops.peers.exchange import Checkpoint, FolderExchange
from kdops.taps import Outputs

Z = torch.tensor(
    [[[2, 0, -1], [0, 1, 3]], [[1, 1, 0], [-1, 2, 1]], [[0.5, -0.5, 2], [0, 0, 0]]],
    dtype=torch.float64,
)
Y = torch.tensor([0, 2])
CE = 0.169846019556
KL = 1.02182398672
GRADIENT = torch.tensor(
    [
        [0.2735794726283426, -0.06420460318204918, -0.2093748694462934],
        [-0.07110805700613523, -0.2025818618155964, 0.27368991882173166],
    ],
    dtype=torch.float64,
)


def value_and_gradient(*peers, target=None, **options):
    own = Z[0].clone().requires_grad_()
    loss = CodistillationLoss(ce_weight=float(target is not None), **options)(own, peers, target)
    loss.backward()
    return loss.item(), own.grad


@pytest.mark.parametrize("kind", ["kl", "ce"])
def test_two_peers(kind):
    value, gradient = value_and_gradient(*Z[1:], kind=kind)
    mean = Z[1:].softmax(-1).mean(0)
    cross = -(mean * Z[0].log_softmax(-1)).sum(-1).mean().item()
    assert value == pytest.approx(KL if kind == "kl" else cross, rel=1e-11)
    torch.testing.assert_close(gradient, GRADIENT, rtol=1e-12, atol=0)


def test_one_peer_and_oneself():
    assert value_and_gradient(Z[1])[0] == pytest.approx(0.717659993419, rel=1e-11)
    value, gradient = value_and_gradient(Z[0])
    assert value == 0 and not gradient.any()


@pytest.mark.parametrize("temperature", [2.0, 0.5])
@pytest.mark.parametrize("scale_t2", [True, False])
def test_temperature(temperature, scale_t2):
    options = {"temperature": temperature, "scale_t2": scale_t2}
    pairs = [value_and_gradient(*Z[1:], kind=kind, **options) for kind in ("kl", "ce")]
    torch.testing.assert_close(pairs[0][1], pairs[1][1], rtol=1e-12, atol=0)
    mean = (Z[1:] / temperature).softmax(-1).mean(0)
    cross = -(mean * (Z[0] / temperature).log_softmax(-1)).sum(-1).mean().item()
    assert pairs[1][0] == pytest.approx(cross * (temperature**2 if scale_t2 else 1), rel=1e-11)


def test_squared_logits():
    value, gradient = value_and_gradient(*Z[1:], kind="mse_logits")
    difference = Z[0] - Z[1:].mean(0)
    assert value == pytest.approx(difference.square().mean().item(), rel=1e-12)
    torch.testing.assert_close(gradient, 2 * difference / 6)


@pytest.mark.parametrize("kind", ["kl", "ce", "mse_logits"])
def test_rows_that_do_not_count(kind):
    """Whatever is in them, of value and gradient nothing is left."""
    target = torch.tensor([0, -100])
    spoiled = Z.clone()
    spoiled[:, 1] = torch.nan
    own = spoiled[0].clone().requires_grad_()
    loss = CodistillationLoss(kind=kind)(own, spoiled[1:], target)
    loss.backward()
    expected = CodistillationLoss(kind=kind)(Z[0, :1], Z[1:, :1], target[:1])
    torch.testing.assert_close(loss, expected)
    assert own.grad[0].isfinite().all() and not own.grad[1].any()
    assert CodistillationLoss(kind=kind)(own, spoiled[1:], torch.full((2,), -100)) == 0


@pytest.mark.parametrize("kind", ["kl", "ce", "mse_logits"])
@pytest.mark.parametrize("peers", [None, (), Z[:0]], ids=["none", "list", "stacked"])
def test_no_peer_yet(kind, peers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss, terms = CodistillationLoss(kind=kind)(Z[0], peers, Y, return_terms=True)
    assert loss.item() == pytest.approx(CE, rel=1e-11) and terms["peers"] == 0


def test_burn_in_and_ramp():
    loss = CodistillationLoss(kd_weight=2.0, burn_in_steps=10, weight_ramp_steps=3)
    weights = [loss.weight(step) for step in (0, 9, 10, 11, 12, 13, 500, None)]
    assert weights == [0, 0, 0.5, 1, 1.5, 2, 2, 2]
    assert loss(Z[0], torch.nan * Z[1:], Y, step=9).item() == pytest.approx(CE, rel=1e-11)
    full = loss(Z[0], Z[1:], Y, step=13).item()
    assert full == pytest.approx(CE + 2 * KL, rel=1e-11)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"kind": "mse"}, ValueError, "kind must be one of 'kl', 'ce', 'mse_logits', got 'mse'"),
        ({"temperature": 0}, ValueError, "temperature must be finite and > 0"),
        ({"kd_weight": -1}, ValueError, "kd_weight must be finite and >= 0"),
        ({"burn_in_steps": 0.5}, TypeError, "burn_in_steps must be an int"),
    ],
    ids=str,
)
def test_options_of_the_loss(options, error, text):
    with pytest.raises(error, match=f"CodistillationLoss: {text}"):
        CodistillationLoss(**options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"exchange_every": 0}, ValueError, "exchange_every must be >= 1"),
        ({"burn_in": -0.1}, ValueError, "burn_in must be finite and >= 0"),
        ({"burn_in": 1.5}, TypeError, "burn_in must be an int"),
        ({"shards": "own"}, ValueError, "shards must be one of 'disjoint', 'same'"),
        ({"count": 0}, ValueError, "count must be >= 1"),
        ({"max_staleness": -1}, ValueError, "max_staleness must be >= 0"),
    ],
    ids=str,
)
def test_options_of_the_method(options, error, text):
    with pytest.raises(error, match=f"Codistillation: {text}"):
        Codistillation(**options)


def make_net(i):
    torch.manual_seed(i)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def assembled(**options):
    method = Codistillation(**{"burn_in": 4, "exchange_every": 3, **options})
    return method, method.assemble(make_net, {}).train()


def batch(step, peers=2, own_rows=True):
    g = torch.Generator().manual_seed(step)
    shape = (peers, 8) if own_rows else (8,)
    return torch.randn(*shape, 4, generator=g), torch.randint(3, shape, generator=g)


def trained(method, group, steps, seen=lambda step, outputs: None):
    optimizer = torch.optim.SGD([x for x in group.parameters() if x.requires_grad], 0.1)
    losses = []
    for step in steps:
        method.set_step(step, group)
        images, labels = batch(step, group.count, group.own_rows)
        outputs = group(images)
        seen(step, outputs)
        loss = method(outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("shards", ["disjoint", "same"])
@pytest.mark.parametrize("count", [2, 3])
def test_copies_answer_for_each_peers_own_rows(count, shards):
    """As they were at the last exchange, in evaluation mode; and not before the burn-in's end."""
    method, group = assembled(count=count, shards=shards)
    published = {}

    def seen(step, outputs):
        if step == 4 or (step and step % 3 == 0):
            published.update({i: copy.deepcopy(group.peer(i)).eval() for i in range(count)})
        images, _ = batch(step, count, group.own_rows)
        for i, answers in enumerate(outputs.features["stale"]):
            rows = images[i] if group.own_rows else images
            others = [j for j in range(count) if j != i] if step >= 4 else []
            assert len(answers) == len(others)
            for answer, j in zip(answers, others, strict=True):
                torch.testing.assert_close(answer, published[j](rows))
                assert not answer.requires_grad

    # The group has normed a batch when it is seen, so copies of running means would differ.
    for net in group.nets:
        net.model[1].momentum = 0.0
    trained(method, group, range(9), seen)
    asked = count - 1 if group.own_rows else 1  # times a batch
    assert group.bank.learned[1] == (5 * asked, (0 + 1 + 0 + 1 + 2) * asked, 2)


def test_a_peer_learns_from_its_own_loss_alone():
    method, group = assembled(burn_in=0)
    trained(method, group, range(4))
    method.set_step(4, group)
    images, labels = batch(4)
    outputs = group(images)
    loss = CodistillationLoss()(outputs.logits[1], outputs.features["stale"][1], labels[1])
    ours = torch.autograd.grad(method(outputs, labels), group.nets[1].parameters())
    outputs = group(images)
    loss = CodistillationLoss()(outputs.logits[1], outputs.features["stale"][1], labels[1])
    for a, b in zip(ours, torch.autograd.grad(loss, group.nets[1].parameters()), strict=True):
        torch.testing.assert_close(a, b)


def test_burn_in_is_labels_alone():
    method, group = assembled(burn_in=0.5)
    with pytest.raises(RuntimeError, match="burn_in is a share: set total_steps first"):
        method.set_step(0, group)
    method.total_steps = 8
    assert method.burn_in_steps() == 4
    parts = []

    def seen(step, outputs):
        parts.append(method.terms(outputs, None, batch(step)[1])["peers"].item())

    trained(method, group, range(6), seen)
    assert parts[:4] == [0] * 4 and min(parts[4:]) > 0


@pytest.mark.parametrize("stop", [5, 6, 7])
def test_goes_on_from_a_state_dict(stop, tmp_path):
    """Between exchanges and at one, copies and their ages included."""
    method, group = assembled()
    whole = trained(method, group, range(12))
    method, group = assembled()
    begun = trained(method, group, range(stop))
    torch.save(group.state_dict(), tmp_path / "group")
    method, group = assembled()
    group.load_state_dict(torch.load(tmp_path / "group", weights_only=True))
    assert begun + trained(method, group, range(stop, 12)) == whole
    assert group.record()["ages"]["0"]["batches"] == 8


def test_a_peer_of_its_own(tmp_path):
    """Two processes' methods, one after the other: the second learns from what the first left."""
    groups = []
    for peer in range(2):
        method = Codistillation(burn_in=0, exchange_every=3, max_staleness=5)
        method.exchange = FolderExchange(tmp_path, peer, 2)
        groups.append(method.assemble(make_net, {}).train())
        assert groups[-1].count == 1 and groups[-1].numbers == (peer,)
        trained(method, groups[-1], range(7))
        groups[-1].publish(7)
    assert [group.record()["ages"] for group in groups] == [
        {"1": {"batches": 0, "mean": 0, "largest": 0}},
        {"0": {"batches": 7, "mean": -4, "largest": -1}},
    ]
    with pytest.warns(UserWarning, match="peer 0 is 6 steps behind and not asked"):
        trained(method, groups[1], range(7, 14))


def test_an_exchange_of_another_number(tmp_path):
    method = Codistillation(count=3)
    method.exchange = FolderExchange(tmp_path, 0, 2)
    with pytest.raises(ValueError, match="exchange must be between count=3 peers, got 2"):
        method.assemble(make_net, {})


def test_equal_weights_at_the_start():
    method = Codistillation(count=2)
    with pytest.warns(UserWarning, match="peers 0 and 1 began with the same weights"):
        method.assemble(lambda i: make_net(0), {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.assemble(make_net, {})


def test_without_copies_the_labels_remain():
    method = Codistillation(count=3, shards="same")
    method.step = 0
    value = method(Outputs(tuple(Z), {}), Y)
    assert value.item() == pytest.approx(CE + 1.10550351041 + 1.43249009424, rel=1e-11)


def test_a_spoiled_peer_changes_nothing(tmp_path):
    """The weights of the other peer become NaN: it does not publish them, nor are they taken."""
    method = Codistillation(burn_in=0, exchange_every=1)
    method.exchange = FolderExchange(tmp_path, 0, 2)
    group = method.assemble(make_net, {}).train()
    other = FolderExchange(tmp_path, 1, 2)
    state = make_net(1).state_dict()
    other.publish(Checkpoint(1, 0, state))
    assert all(torch.tensor(trained(method, group, range(3))).isfinite())
    state["0.weight"][0, 0] = torch.nan
    other.publish(Checkpoint(5, 0, state))
    with pytest.warns(UserWarning, match="peer 1 is not refreshed: its weights are not finite"):
        assert all(torch.tensor(trained(method, group, range(3, 6))).isfinite())
    assert group.bank.steps == {1: 1}
