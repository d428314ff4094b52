"""The methods: their terms and defaults, where gradients go, their types."""

import pytest
import torch

from kdops import methods, nn
from kdops.taps import Outputs

from .method_terms import LEARNED, TERMS, batch


def prepared(name, options, student, teacher):
    torch.manual_seed(0)
    method = getattr(methods, name)(**options)
    method.prepare(student, teacher)
    return method


each_term = pytest.mark.parametrize(
    ("name", "options", "expected"), TERMS, ids=[f"{i}-{x[0]}" for i, x in enumerate(TERMS)]
)
EVERY = [(name, options) for name, options, _ in TERMS]
EVERY += [(name, options) for name, (options, _) in LEARNED.items()]
each = pytest.mark.parametrize(
    ("name", "options"), EVERY, ids=[f"{i}-{x[0]}" for i, x in enumerate(EVERY)]
)


def test_every_method_is_here():
    assert {name for name, _ in EVERY} == set(methods.__all__) - {
        "Method",
        "Relation",
        "online",
        "specialists",
        "temperature_range",
    }


@each_term
def test_terms(backend, name, options, expected):
    student, teacher, labels = batch()
    method = prepared(name, options, student, teacher)
    terms, wanted = method.terms(student, teacher, labels), expected(student, teacher, labels)
    assert list(terms) == list(wanted)
    for key, value in wanted.items():
        torch.testing.assert_close(terms[key], value, msg=key)
    torch.testing.assert_close(method(student, teacher, labels), sum(wanted.values()))
    assert not list(method.parameters()) and not method.state_dict()


@pytest.mark.parametrize("name", LEARNED)
def test_terms_of_learned_parts(backend, name):
    student, teacher, labels = batch()
    options, expected = LEARNED[name]
    with pytest.raises(RuntimeError, match=rf"{name}: call prepare\(student, teacher\) first"):
        getattr(methods, name)(**options).terms(student, teacher, labels)
    method = prepared(name, options, student, teacher)
    terms = method.terms(student, teacher, labels)
    for key, value in expected(method, student, teacher).items():
        torch.testing.assert_close(terms[key], value, rtol=1e-6, atol=0)
    method(student, teacher, labels).backward()
    frozen = ["maps.1.weight", "maps.1.bias"] if name == "CCKD" else []
    assert [key for key, x in method.named_parameters() if x.grad is None] == frozen
    assert [key for key, x in method.named_parameters() if not x.requires_grad] == frozen
    assert student.features[method.layers[0]].grad.abs().sum() > 0


@each
def test_the_teacher_gets_no_gradient(backend, name, options):
    student, teacher, labels = batch()
    prepared(name, options, student, teacher)(student, teacher, labels).backward()
    assert all(x.grad is None for x in (teacher.logits, *teacher.features.values()))
    gradients = [x.grad for x in (student.logits, *student.features.values()) if x.grad is not None]
    assert gradients and all(x.isfinite().all() and x.abs().sum() > 0 for x in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@each
def test_half_precision(backend, name, options, dtype):
    """As float64 finds it for the same numbers; the parts that learn stay float32."""
    values = []
    for wide in (False, True):
        sides = batch(dtype=dtype)
        if wide:
            sides = (
                *(Outputs(x.logits.double(), {k: v.double() for k, v in x.features.items()})
                  for x in sides[:2]),
                sides[2],
            )  # fmt: skip
        method = prepared(name, options, *sides[:2])
        kind = torch.float64 if wide else torch.float32
        assert {x.dtype for x in method.parameters()} <= {kind}
        values.append(method(*sides))
        values[-1].backward()
        assert values[-1].dtype == kind
    torch.testing.assert_close(values[0].double(), values[1], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("name", ["AT", "VID", "Hint", "RKD", "PKT", "SP"])
def test_shares_of_layers(name):
    student, teacher, labels = batch()
    teacher.features["early"] = teacher.features["early"][..., :4, :4]  # for VID and Hint
    values = []
    for layers in ({"early": 2.0, "narrow": 0.0}, ["early", "narrow"]):
        method = prepared(name, {"layers": layers, "ce_weight": 0}, student, teacher)
        assert method.layers == ("early", "narrow")
        values.append(method.terms(student, teacher, labels))
    for key, value in values[0].items():
        share = 2 if "early" in key else 0
        torch.testing.assert_close(value, share * values[1][key])


def test_a_hint_of_equal_shapes_has_no_regressor():
    """Nor the activation, which the student's layer has had."""
    student, teacher, labels = batch()
    teacher.features["early"] = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    method = prepared("Hint", {"layers": "early", "activation": "tanh"}, student, teacher)
    assert not list(method.parameters())
    difference = student.features["early"] - teacher.features["early"]
    torch.testing.assert_close(
        method(student, teacher, labels), difference.square().flatten(1).sum(1).mean() / 2
    )


def test_names_with_dots():
    """As submodules have them, whose outputs a method may be told to use without an alias."""
    sides = batch()[:2]
    for side in sides:
        side.features.update({"layer1.0": side.features["narrow"], "a.b": side.features["early"]})
    options = {"pairs": [("layer1.0", "a.b")], "regress": True}
    assert prepared("FSP", options, *sides)(*sides, None) > 0
    for name in ("Hint", "VID"):
        assert prepared(name, {"layers": "layer1.0", "ce_weight": 0}, *sides)(
            *sides, None
        ).isfinite()


@pytest.mark.parametrize("variance", [1e-4, 5.0, 1e4])
def test_variance_at_the_start(variance):
    loss = nn.VIDLoss(2, 3, variance=variance)
    torch.testing.assert_close(loss.variance(), torch.full((3,), variance), rtol=1e-3, atol=0)
