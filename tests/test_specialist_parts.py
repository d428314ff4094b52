"""Hinton's specialists, before they answer: heads, labels, soft targets, the dustbin's bias."""

import copy
import io
import math

import pytest
import torch
from torch import nn

import kdops
from kdops.methods import specialists
from kdops.methods.specialists import (
    dustbin_bias,
    reduced_logits,
    reduced_targets,
    specialist_labels,
    specialist_of,
)

from .cases import generator


def close(value, expected, atol=1e-12):
    expected = torch.as_tensor(expected, dtype=value.dtype)
    torch.testing.assert_close(value, expected, rtol=0, atol=atol)


def probabilities(*shape, seed=0, dtype=torch.float64):
    return (3 * torch.randn(shape, generator=generator(seed), dtype=torch.float64)).softmax(-1)


# ---- heads -------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self, bias=True):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh())
        self.top = nn.ModuleDict({"logits": nn.Linear(6, 8, bias=bias)})

    def forward(self, x):
        return self.top["logits"](self.body(x))


@pytest.mark.parametrize("bias", [True, False])
def test_specialist_starts_as_its_generalist(bias):
    torch.manual_seed(0)
    net, x = Net(bias).double().eval(), torch.randn(4, 5).double()
    before = copy.deepcopy(net.state_dict())
    specialist = specialist_of(net, "top.logits", (6, 1, 3))
    assert torch.equal(specialist(x)[:, :3], net(x)[:, (6, 1, 3)])
    assert specialist(x).shape == (4, 4) and not specialist.training
    specialist(x).sum().backward()
    with torch.no_grad():
        for parameter in specialist.parameters():
            parameter.zero_()
    assert all(torch.equal(before[key], each) for key, each in net.state_dict().items())
    assert all(each.grad is None for each in net.parameters())


def test_dustbin_is_the_tangent_of_the_rest():
    """Value and gradient at h = 0, below the true logit elsewhere."""
    torch.manual_seed(0)
    layer, rest = nn.Linear(6, 8).double(), [0, 2, 4, 5, 7]
    head = specialist_of(layer, "", (6, 1, 3))

    def dustbin(h):
        return layer(h)[..., rest].logsumexp(-1)

    zero = torch.zeros(6).double()
    close(head(zero)[3], dustbin(zero))
    close(head.weight[3], torch.func.grad(dustbin)(zero))
    h = torch.randn(100, 6).double()
    assert (head(h)[:, 3] < dustbin(h)).all()
    close(head(zero).softmax(0), reduced_targets(layer(zero).softmax(0), (6, 1, 3)))


def test_head_keeps_type_and_can_be_trained():
    net = Net().half().requires_grad_(False)
    specialist = specialist_of(net, "top.logits", [0, 1])
    trained = {name for name, each in specialist.named_parameters() if each.requires_grad}
    assert trained == {"top.logits.weight", "top.logits.bias"}
    assert {each.dtype for each in specialist.parameters()} == {torch.float16}
    stream = io.BytesIO()
    torch.save(specialist.state_dict(), stream)
    stream.seek(0)
    specialist_of(net, "top.logits", [2, 3]).load_state_dict(torch.load(stream, weights_only=True))


# ---- labels and targets ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
def test_labels(dtype):
    target = torch.tensor([[7, 3, 0], [9, -100, 12]], dtype=dtype)
    label = specialist_labels(target, (7, 9, 3))
    assert label.dtype == dtype and label.tolist() == [[0, 2, 3], [1, -100, 3]]
    assert specialist_labels(target, (7, 9, 3), ignore_index=12).tolist()[1] == [1, -100, 12]
    assert specialist_labels(target[:, :0], torch.tensor([7])).shape == (2, 0)


def test_a_label_that_is_no_class_stays_an_error():
    label = specialist_labels(torch.tensor([1, -1]), (0, 1))
    with pytest.raises(IndexError, match="got -1 in row 1"):
        kdops.kd_loss(torch.zeros(2, 3), torch.zeros(2, 3), label, ce_weight=1.0)


def test_reduced_targets():
    p = torch.tensor([0.5, 0.25, 0.125, 0.125])
    assert reduced_targets(p, (1, 3)).tolist() == [0.25, 0.125, 0.625]
    p = probabilities(2, 3, 9)
    close(reduced_targets(p, (4, 0)).sum(-1), torch.ones(2, 3))
    assert reduced_targets(p.bfloat16(), (4, 0)).dtype == torch.float32


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_reduced_logits_are_those_of_the_temperature(temperature):
    z = torch.randn(5, 9, generator=generator(0), dtype=torch.float64) * 4
    reduced = reduced_logits(z, (4, 0), temperature=temperature)
    expected = reduced_targets((z / temperature).softmax(1), (4, 0))
    close((reduced / temperature).softmax(1), expected)
    assert torch.equal(reduced[:, :2], z[:, [4, 0]])
    student = torch.randn(5, 3, generator=generator(1), dtype=torch.float64)
    loss = kdops.kd_loss(student, reduced, temperature=temperature, scale_t2=False)
    q = (student / temperature).softmax(1)
    close(loss, (expected * (expected / q).log()).sum() / 5)


def test_reduced_logits_at_the_ends():
    z = torch.tensor([[0.0, 1e4, 1e4], [0.0, -torch.inf, -torch.inf], [3e4, 0, -torch.inf]])
    expected = [[0, 1e4 + math.log(2)], [0, -torch.inf], [3e4, 0]]
    close(reduced_logits(z, [0]), torch.tensor(expected), atol=1e-3)
    assert reduced_logits(z.half(), [0]).isfinite()[0].all()


# ---- the dustbin's bias ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "bias", "expected"),
    [
        ("log_odds", 3.8918202981, [0.0812925, 0.02990584, 0.88880166]),
        ("literal", 3.2188758249, [0.14396499, 0.05296176, 0.80307326]),
    ],
)
def test_bias(form, bias, expected):
    b = dustbin_bias(0.02, form=form)
    assert b == pytest.approx(bias, abs=5e-11)
    close(torch.tensor([2, 1, 0.5 + b], dtype=torch.float64).softmax(0), expected, atol=5e-9)


def test_bias_undoes_the_sampling():
    """Bayes: the right answer under the batches' share becomes that under the data's."""
    share, sampled = 0.07, 0.3
    density = probabilities(2, 5)  # of five inputs, given inside and given outside
    inside, outside = sampled * density[0], (1 - sampled) * density[1]
    b = dustbin_bias(share, sampled=sampled)
    corrected = torch.sigmoid((outside / inside).log() + b)
    right = (1 - share) * density[1] / (share * density[0] + (1 - share) * density[1])
    close(corrected, right)
    assert dustbin_bias(0.3, sampled=0.3) == pytest.approx(0, abs=1e-15)
    assert dustbin_bias(0.5, sampled=0.1) < 0


def test_docstrings():
    for name in specialists.__all__:
        text = getattr(specialists, name).__doc__
        assert "Source: Hinton, Vinyals, Dean, 2015" in text and "Args:" in text
