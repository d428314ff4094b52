"""Tapped and Teacher: what layers compute, handed out of a model that stays as it is."""

import copy
import gc
import io
import weakref
from types import SimpleNamespace

import pytest
import torch
import torch._dynamo
from torch import nn
from torch.utils.checkpoint import checkpoint

from kdops import Tapped, Teacher
from kdops.taps import classifier_of


class Small(nn.Module):
    """A convolution, batch norm, a ReLU that writes in place and is used twice, a classifier."""

    def __init__(self, inplace=True):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=inplace)
        self.hidden = nn.Linear(12, 5)
        self.spare = nn.Linear(5, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x)))
        return self.head(input=self.relu(self.hidden(x.flatten(1))))


def small(**options):
    torch.manual_seed(0)
    return Small(**options), torch.randn(6, 1, 4, 4)


class Wrapped(nn.Module):
    """A model of whose output something is made."""

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, x):
        return self.change(self.model(x))


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_values_by_name_by_alias_and_of_an_input():
    model, x = small()
    layers = {"first": "conv", "before": "relu:input", "embedding": "head:input", "all": ""}
    logits, features = Tapped(model, layers)(x)
    other, _ = small(inplace=False)
    first = other.conv(x)
    hidden = other.hidden(other.relu(other.norm(first)).flatten(1))
    assert list(features) == list(layers)
    assert torch.equal(features["first"], first)
    assert torch.equal(features["before"], hidden), "the last of two passes, before the ReLU"
    assert torch.equal(features["embedding"], hidden.relu())
    assert torch.equal(features["all"], logits) and torch.equal(logits, other.head(hidden.relu()))


def test_values_before_a_relu_that_writes_in_place():
    model, x = small()
    tapped = Tapped(model, ["norm", "hidden"])
    _, features = tapped(x)
    assert (features["norm"] < 0).any() and (features["hidden"] < 0).any()
    loss = sum(value.square().sum() for value in features.values())
    other, _ = small(inplace=False)
    norm = other.norm(other.conv(x))
    hidden = other.hidden(norm.relu().flatten(1))
    gradients = [
        torch.autograd.grad(value, net.conv.weight)[0]
        for value, net in ((loss, model), (norm.square().sum() + hidden.square().sum(), other))
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("layers", ["hidden", ("hidden",), {"hidden": "hidden"}])
def test_layers_as_one_name_several_or_a_mapping(layers):
    model, x = small()
    assert list(Tapped(model, layers)(x).features) == ["hidden"]
    assert Tapped(model)(x).features == {}


def test_gradient_reaches_the_layers_before_the_tap():
    model, x = small()
    Tapped(model, ["hidden"])(x).features["hidden"].sum().backward()
    assert model.conv.weight.grad.abs().sum() > 0 and model.hidden.weight.grad is not None
    assert model.head.weight.grad is None


def test_the_model_stays_as_it_is():
    model, x = small()
    keys, before = list(model.state_dict()), model(x)
    model.norm.reset_running_stats()
    tapped = Tapped(model, ["conv", "head:input"])
    assert list(model.state_dict()) == keys
    assert torch.equal(tapped(x).logits, before) and hooks(model) == 2
    tapped.remove()
    tapped.remove()
    assert hooks(model) == 0 and tapped(x).features == {}
    with pytest.raises(KeyError), Tapped(model, ["conv"]) as tapped:
        assert tapped(x).features["conv"].shape == (6, 3, 2, 2)
        raise KeyError
    assert hooks(model) == 0


def test_nothing_is_kept_after_a_pass():
    """Neither after one that fails, nor after one of the model alone or of another Tapped."""
    model, x = small()
    tapped, other = Tapped(model, ["conv"]), Tapped(model, {"a": "conv", "b": "head"})
    kept = []
    model.conv.register_forward_hook(lambda *args: kept.append(weakref.ref(args[2])))
    for call in (model, tapped, other):
        call(x)
    with pytest.raises(RuntimeError):
        tapped(torch.randn(6, 1, 9, 9))
    gc.collect()
    assert len(kept) == 4 and not any(ref() is not None for ref in kept)
    assert all(
        tap.value is None and not tap.open for t in (tapped, other) for tap in t._taps.values()
    )
    assert list(tapped(x).features) == ["conv"] and list(other(x).features) == ["a", "b"]
    other.remove()
    assert list(tapped(x).features) == ["conv"] and hooks(model) == 2


def test_a_layer_that_backward_computes_anew():
    """Activation checkpointing: the first pass's value is given, the second's is not kept."""
    stage, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.randn(5, 3)
    model = Wrapped(stage, lambda out: out)
    expected = torch.autograd.grad(model(x).square().sum(), stage[0].weight)[0]
    model.forward = lambda x: checkpoint(stage, x, use_reentrant=False)
    tapped = Tapped(model, ["model.0"])
    logits, features = tapped(x)
    assert torch.equal(features["model.0"], stage[0](x))
    torch.testing.assert_close(
        torch.autograd.grad(logits.square().sum(), stage[0].weight)[0], expected
    )
    assert tapped._taps["model.0"].value is None


@pytest.mark.parametrize(
    ("layers", "error", "text"),
    [
        (["hiden"], ValueError, r"Small has no layer 'hiden'; near: 'hidden'"),
        (["zz"], ValueError, r"Small has no layer 'zz'; near: 'conv', 'norm', 'relu'"),
        ({"a": "hiden:input"}, ValueError, "no layer 'hiden'; near: 'hidden'"),
        (["spare"], RuntimeError, "layer 'spare' did not run"),
        (["spare:input"], RuntimeError, "layer 'spare:input' did not run"),
    ],
)
def test_layers_that_are_not_there(layers, error, text):
    model, x = small()
    with pytest.raises(error, match=text):
        Tapped(model, layers)(x)


def test_an_unknown_name_leaves_no_hook():
    model, _ = small()
    with pytest.raises(ValueError, match="no layer"):
        Tapped(model, ["conv", "nowhere"])
    assert hooks(model) == 0


def test_a_layer_without_a_tensor():
    model = Wrapped(nn.LSTM(3, 4), lambda out: out[0])
    with pytest.raises(TypeError, match="layer 'model' must give a tensor, got tuple; tap one in"):
        Tapped(model, ["model"])(torch.randn(2, 1, 3))


def test_a_layer_with_two_names():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model.append(model[0])
    _, features = Tapped(model, ["0", "2"])(x := torch.randn(2, 3))
    last = model[0](model[0](x).relu())
    assert torch.equal(features["0"], last) and torch.equal(features["2"], last)


def test_models_with_an_attribute_logits():
    model, x = small()
    wrapped = Tapped(Wrapped(model, lambda out: SimpleNamespace(logits=out, loss=None)), ["model"])
    logits, features = wrapped(x)
    assert torch.equal(logits, features["model"])
    with pytest.raises(TypeError, match=r"Wrapped must give logits, or .* logits, got tuple"):
        Tapped(Wrapped(model, lambda out: (out, out)))(x)


def test_copies():
    """A copy reads its own model's layers; a copy of the model alone reads nothing."""
    model, x = small()
    tapped = Tapped(model, ["hidden"])
    stream = io.BytesIO()
    torch.save(tapped, stream)
    stream.seek(0)
    for twin in (copy.deepcopy(tapped), torch.load(stream, weights_only=False)):
        nn.init.zeros_(twin.model.hidden.weight)
        values = twin(x).features["hidden"]
        assert torch.equal(values, twin.model.hidden.bias.expand(6, 5))
        assert not torch.equal(tapped(x).features["hidden"], values)
        twin.remove()
        assert hooks(twin.model) == 0 and hooks(model) == 1
    alone = copy.deepcopy(model)
    alone(x)
    (hook,) = alone.hidden._forward_hooks.values()
    assert hook.__self__ is not tapped._taps["hidden"] and hook.__self__.value is None


def test_compiled():
    """The compiled object is kept and called: values, gradients, new weights, nothing kept."""
    torch._dynamo.reset()
    model, x = small()
    tapped = Tapped(model, {"norm": "norm", "embedding": "head:input"})
    compiled = torch.compile(tapped, fullgraph=True, backend="aot_eager")
    for _ in range(3):
        (logits, features), (same, others) = compiled(x), tapped(x)
        torch.testing.assert_close(logits, same)
        gradients = []
        for out, values in ((logits, features), (same, others)):
            loss = out.sum() + sum(value.square().sum() for value in values.values())
            gradients.append(torch.autograd.grad(loss, list(model.conv.parameters())))
        torch.testing.assert_close(*gradients)
        ref = weakref.ref(features["norm"])
        del logits, features, out, values, loss
        gc.collect()
        assert ref() is None and all(tap.value is None for tap in tapped._taps.values())
        with torch.no_grad():
            model.conv.weight += 1
    tapped.remove()
    assert compiled(x).features == {}
    torch._dynamo.reset()


def test_teacher_gives_no_gradient():
    model, x = small()
    logits, features = Teacher(model.eval(), ["hidden"])(x.requires_grad_())
    assert not logits.requires_grad and not features["hidden"].requires_grad
    assert torch.is_grad_enabled() and model.conv.weight.requires_grad


def test_compiled_teacher():
    torch._dynamo.reset()
    model, x = small()
    teacher = Teacher(model.eval(), ["hidden"])
    compiled = torch.compile(teacher, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        logits, features = compiled(x)
        torch.testing.assert_close(logits, teacher(x).logits)
        assert not logits.requires_grad and not features["hidden"].requires_grad
    torch._dynamo.reset()


def test_teacher_in_training_mode():
    model, x = small()
    teacher = Teacher(model, ["hidden"])
    with pytest.raises(RuntimeError, match=r"training mode \(the model, conv, norm\).*\.eval\(\)"):
        teacher(x)
    before = model.norm.running_mean.clone()
    assert teacher.eval() is teacher and not any(m.training for m in teacher.modules())
    logits = teacher(x).logits
    assert teacher.train() is teacher
    assert nn.ModuleList([teacher]).train()[0] is teacher
    assert torch.equal(teacher(x).logits, logits) and torch.equal(before, model.norm.running_mean)
    model.norm.train()
    with pytest.raises(RuntimeError, match=r"training mode \(norm\)"):
        teacher(x)


def test_name_of_the_classifier():
    assert classifier_of(small()[0]) == "head"
    with pytest.raises(ValueError, match="ReLU has no linear layer: name the layers to tap"):
        classifier_of(nn.ReLU())
