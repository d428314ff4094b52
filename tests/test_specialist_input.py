"""Hinton's specialists: wrong arguments, and the text that names the function and the argument."""

import pytest
import torch
from torch import nn

from kdops.methods import specialists

P = torch.full((2, 4), 0.25)
Q = torch.full((2, 3), 1 / 3)
EYE = torch.eye(4)
NET = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 1, 1))
LABELS = torch.tensor([0, 1])
MANY = torch.full((1000, 2), 0.5)
MANY[997, 0] = 0.7


def identity(job):
    return job


BAD = [
    ("PredictionCovariance", (0,), {}, ValueError, "classes must be >= 1, got 0"),
    ("PredictionCovariance", (2.0,), {}, TypeError, "classes must be an int, got float"),
    ("class_clusters", (P, 2), {}, ValueError, r"covariance must be \(K, K\), got shape \(2, 4\)"),
    ("class_clusters", (EYE, 5), {}, ValueError, r"clusters must be in 1\.\.4, got 5"),
    ("class_clusters", (EYE, 2), {"smallest": 0}, ValueError, "smallest must be >= 1, got 0"),
    ("class_clusters", (EYE, 2), {"largest": 1}, ValueError, "largest must be >= 2, got 1"),
    ("class_clusters", (EYE, 2), {"seed": None}, TypeError, "seed must be an int, got NoneType"),
    ("class_clusters", (EYE / 0, 2), {}, ValueError, "covariance must be finite"),
    ("class_clusters", (EYE.long(), 2), {}, TypeError, "covariance must be float32"),
    ("specialist_of", (NET, "1", (0,)), {}, TypeError, "head must be .* nn.Linear, got Conv2d"),
    ("specialist_of", (NET, "0", (4,)), {}, ValueError, r"classes must be in 0\.\.3, got 4"),
    ("specialist_of", (NET, "0", (0, 0)), {}, ValueError, "classes must be distinct .* got 2"),
    ("specialist_of", (NET, "0", ()), {}, ValueError, "classes must be .* at least one, got 0"),
    ("specialist_of", (NET, "0", range(4)), {}, ValueError, "classes must leave one .* all 4"),
    ("specialist_labels", (LABELS, (-1,)), {}, ValueError, "classes must be >= 0, got -1"),
    ("specialist_labels", (LABELS, (0.5,)), {}, TypeError, "classes must be an int, got float"),
    ("specialist_labels", (LABELS.float(), (0,)), {}, TypeError, "target must be .* torch.float32"),
    ("specialist_labels", ([0], (0,)), {}, TypeError, "target must be .* got list"),
    ("specialist_labels", (LABELS, (5, 6)), {"ignore_index": 2}, ValueError, r".* 0\.\.2, got 2"),
    ("reduced_targets", (P, range(4)), {}, ValueError, "classes must leave one"),
    ("reduced_targets", (P.long(), (0,)), {}, TypeError, "probabilities must be float32"),
    ("reduced_logits", (P, (7,)), {}, ValueError, r"classes must be in 0\.\.3, got 7"),
    ("reduced_logits", (P, (0,)), {"temperature": 0.0}, ValueError, "temperature must be finite"),
    ("dustbin_bias", (0.0,), {}, ValueError, "share must be between 0 and 1, got 0.0"),
    ("dustbin_bias", (1,), {}, ValueError, "share must be between 0 and 1, got 1"),
    ("dustbin_bias", (0.1,), {"sampled": 2.0}, ValueError, "sampled must be between 0 and 1"),
    ("dustbin_bias", ("0.1",), {}, TypeError, "share must be a number, got str"),
    ("dustbin_bias", (0.1,), {"form": "odds"}, ValueError, "form must be one of 'log_odds', 'lit"),
    ("active_specialists", (P, [(4,)]), {}, ValueError, r"classes must be in 0\.\.3, got 4"),
    ("active_specialists", (P, [(1,)]), {"top": 5}, ValueError, r"top must be in 1\.\.4, got 5"),
    ("active_specialists", (P[0], [(1,)]), {}, ValueError, r"generalist must be \(N, D\)"),
    ("train_in_processes", (identity, {}, 0), {}, ValueError, "workers must be >= 1, got 0"),
    ("train_in_processes", (identity, [1], 1), {}, TypeError, "jobs must be a mapping, got list"),
    ("train_in_processes", (identity, {}, 1), {"threads": 0}, ValueError, "threads must be >= 1"),
    ("train_in_processes", (identity, {}, 1), {"seed": -1}, ValueError, "seed must be >= 0"),
    ("Specialists", (NET, [NET], []), {}, ValueError, "specialists, classes .* got 1, 0 and 1"),
    ("Specialists", (NET, [NET], [(0,)], []), {}, ValueError, ".* got 1, 1 and 0"),
    ("Specialists", (NET, [NET], [(0,)], ["x"]), {}, TypeError, "biases must be a number"),
    ("Specialists", (NET, [NET], [(0, 0)]), {}, ValueError, "classes must be distinct"),
    ("Specialists", (NET, [], []), {"top": 0}, ValueError, "top must be >= 1, got 0"),
    ("Specialists", (NET, [], []), {"steps": 0}, ValueError, "steps must be >= 1, got 0"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "options", "error", "text"),
    [pytest.param(*bad, id=f"{i}-{bad[0]}") for i, bad in enumerate(BAD)],
)
def test_arguments(name, arguments, options, error, text):
    with pytest.raises(error, match=f"^{name}: {text}"):
        getattr(specialists, name)(*arguments, **options)


COMBINATIONS = [
    ((P.long(), [], []), {}, TypeError, "generalist must be float32"),
    ((P[0], [], []), {}, ValueError, r"generalist must be \(N, K\) probabilities"),
    ((P + 0.1, [], []), {}, ValueError, "generalist must be probabilities, .* a sum of 1.4 in row"),
    ((P.log_softmax(1), [], []), {}, ValueError, "generalist must be .* least entry of -1.39"),
    (
        (4 * P - torch.eye(2, 4) * 2 - 0.25, [], []),
        {},
        ValueError,
        "generalist must be .* of -1.25",
    ),
    ((MANY, [], []), {}, ValueError, "generalist must be .* a sum of 1.2 in row 997"),
    ((P, [Q], []), {}, ValueError, "specialists and classes .* got 1 and 0"),
    ((P, [None], [(0, 1)]), {}, TypeError, r"specialists\[0\] must be a tensor, got NoneType"),
    ((P, [Q * 2], [(0, 1)]), {}, ValueError, r"specialists\[0\] must be probabilities"),
    ((P, [Q], [(0, 9)]), {}, ValueError, r"classes must be in 0\.\.3, got 9"),
    (
        (P, [Q], [(0, 1, 2)]),
        {},
        ValueError,
        r"specialists\[0\] must be \(2, 4\), 3 classes and a d",
    ),
    ((P, [Q[:1]], [(0, 1)]), {}, ValueError, r"specialists\[0\] must be \(2, 3\), .*got \(1, 3\)"),
    ((P, [Q], [range(4)]), {}, ValueError, r"specialists\[0\] must be \(2, 4\), 4 classes of all"),
    ((P, [Q], [(0, 1)]), {"top": 0}, ValueError, r"top must be in 1\.\.4, got 0"),
    (
        (P, [Q], [(0, 1)]),
        {"active": P[:, :1]},
        ValueError,
        r"active must be a bool tensor \(2, 1\)",
    ),
    ((P, [Q], [(0, 1)]), {"active": [True]}, ValueError, "active must be .* got list"),
    ((P, [Q], [(0, 1)]), {"active": P > 0}, ValueError, r"active must be .* got \(2, 4\)"),
]


def each_combination(function):
    return pytest.mark.parametrize(
        ("arguments", "options", "error", "text"),
        [pytest.param(*bad, id=str(i)) for i, bad in enumerate(COMBINATIONS)],
    )(function)


@each_combination
def test_combination(arguments, options, error, text):
    names = "(combine_specialists|active_specialists)"
    with pytest.raises(error, match=f"^{names}: {text}"):
        specialists.combine_specialists(*arguments, **options)


@each_combination
def test_objective(arguments, options, error, text):
    q = arguments[0]
    q = torch.ones_like(q.float()).softmax(-1)
    names = "(combination_objective|active_specialists)"
    with pytest.raises(error, match=f"^{names}: {text.replace('generalist', '(q|generalist)')}"):
        specialists.combination_objective(q, *arguments, **options)


def test_objective_of_another_shape():
    text = r"^combination_objective: q must have generalist's shape \(2, 4\), got \(2, 3\)"
    with pytest.raises(ValueError, match=text):
        specialists.combination_objective(Q, P, [], [])


def test_steps():
    with pytest.raises(ValueError, match=r"^combine_specialists: steps must be >= 1, got 0"):
        specialists.combine_specialists(P, [], [], steps=0)


def test_devices():
    with pytest.raises(RuntimeError, match="must be on one device, got cpu and meta"):
        specialists.combine_specialists(P, [Q.to("meta")], [(0, 1)])


def test_covariance():
    statistics = specialists.PredictionCovariance(3)
    for change, text in ((P, "must have 3 classes, got 4"), (Q + 1, "sum of 4"), (Q[0], "(N, K)")):
        with pytest.raises(ValueError) as error:
            statistics.update(change)
        assert str(error.value).startswith("PredictionCovariance: probabilities must")
        assert text in str(error.value)
    with pytest.raises(ValueError, match="must have 3 classes, got 4"):
        statistics.merge(specialists.PredictionCovariance(4))
    assert statistics.count == 0 and not statistics.scatter.any()


def test_module_with_logits_of_another_width():
    model = specialists.Specialists(nn.Linear(3, 4), [nn.Linear(3, 4)], [(0, 1)], top=4)
    with pytest.raises(ValueError, match=r"^Specialists: specialists\[0\] must give 3 logits, got"):
        model(torch.randn(2, 3))
