"""Awkward logits of DKD, DIST and logit standardisation."""

import math

import pytest
import torch

import kdops
from kdops.bench import published

from .cases import generator
from .metrics import gradient_error, value_and_gradient, value_error

INF, NAN = math.inf, math.nan


def logits(rows=6, columns=5, dtype=torch.float32, scale=2.0, seed=0):
    x = torch.randn((2, rows, columns), generator=generator(seed), dtype=torch.float64)
    return (scale * x).to(dtype).unbind()


def dkd(student, teacher, target=None, **options):
    """Value and gradient with labels 0, 1, ... of the rows."""
    target = torch.arange(len(student)) % student.shape[1] if target is None else target
    return value_and_gradient(kdops.dkd_loss, student, teacher, target=target, **options)


def in_float64(function, student, teacher, **options):
    return value_and_gradient(function, student.double(), teacher.double(), **options)


CONFIDENT = {
    "right": (100.0, 100.0),
    "very": (1e4, 1e4),
    "more than the teacher": (60.0, 3.0),
    "wrong": (-60.0, 60.0),
    "not at all": (-1e3, -1e3),
}


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("name", CONFIDENT)
def test_the_rest_does_not_underflow(backend, name, dtype, temperature):
    """1 - p_y far below float32's unit, both parts against fifty digits."""
    mpmath = pytest.importorskip("mpmath", reason="mpmath is missing")
    student, teacher = (x.clone() for x in logits(dtype=dtype))
    target = torch.arange(6) % 5
    for x, shift in zip((student, teacher), CONFIDENT[name], strict=True):
        x[torch.arange(6), target] += shift
    options = {"temperature": temperature, "reduction": "none"}
    value, gradient = dkd(student, teacher, rest_weight=2.0, **options)
    assert value.isfinite().all() and gradient.isfinite().all()
    with mpmath.workdps(50):

        def kl(s, t):
            """T^2 KL of softmax(t / T) from softmax(s / T)."""
            logs = [mpmath.log(mpmath.fsum(map(mpmath.exp, x))) for x in (s, t)]
            pairs = [(a - logs[0], b - logs[1]) for a, b in zip(s, t, strict=True)]
            return temperature**2 * mpmath.fsum(mpmath.exp(p) * (p - q) for q, p in pairs)

        for i, label in enumerate(target.tolist()):
            rows = [
                [mpmath.mpf(v) / temperature for v in x[i].tolist()] for x in (student, teacher)
            ]
            others = [x[:label] + x[label + 1 :] for x in rows]
            binary = [
                [x[label], mpmath.log(mpmath.fsum(map(mpmath.exp, o)))]
                for x, o in zip(rows, others, strict=True)
            ]
            exact = kl(*binary) + 2 * kl(*others)
            assert value[i].item() == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize("offset", [1e3, -1e3, 1e5])
def test_offset(backend, offset):
    """A constant added to a row changes nothing but its rounding."""
    student, teacher = logits()
    student, teacher = student + offset, teacher - offset
    for function in (dkd, lambda *x: value_and_gradient(kdops.dist_loss, *x)):
        value, gradient = function(student, teacher)
        exact = function(student.double(), teacher.double())
        assert value_error(value, exact[0]) < 1e-6 and gradient_error(gradient, exact[1]) < 2e-6


def test_two_classes_have_no_rest(backend):
    student, teacher = logits(columns=2)
    options = {"temperature": 4.0, "reduction": "none"}
    value, gradient = dkd(student, teacher, **options)
    expected = value_and_gradient(kdops.kd_loss, student, teacher, **options)
    torch.testing.assert_close(value, expected[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradient, expected[1], rtol=1e-5, atol=1e-6)
    rest, gradient = dkd(student, teacher, target_weight=0.0)
    assert rest == 0 and (gradient == 0).all()


@pytest.mark.parametrize("masked", [[4], [2, 3], [0, 4]], ids=str)
def test_masked_classes_are_dropped(backend, masked):
    """-inf in the same columns of both equals a smaller vocabulary."""
    student, teacher = logits(rows=3)
    kept = [c for c in range(5) if c not in masked]
    labels = torch.tensor([kept[0], kept[1], kept[0]])
    smaller = torch.tensor([kept.index(label) for label in labels.tolist()])
    expected = dkd(student[:, kept], teacher[:, kept], smaller, reduction="none")
    student[:, masked], teacher[:, masked] = -INF, -INF
    value, gradient = dkd(student, teacher, labels, reduction="none")
    torch.testing.assert_close(value, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient[:, kept], expected[1], rtol=1e-5, atol=1e-6)
    assert (gradient[:, masked] == 0).all()


@pytest.mark.parametrize("masked", [[4], [2, 3]], ids=str)
def test_masked_columns_of_dist_are_constant(masked):
    """They count as equal; the rows of probabilities keep their zeros."""
    student, teacher = logits()
    kept = [c for c in range(5) if c not in masked]
    alone = kdops.dist_loss(student[:, kept], teacher[:, kept], inter_weight=0.0)
    student[:, masked], teacher[:, masked] = -INF, -INF
    value, gradient = value_and_gradient(kdops.dist_loss, student, teacher, inter_weight=0.0)
    torch.testing.assert_close(value, alone * len(kept) / 5, rtol=1e-5, atol=1e-6)
    assert gradient.isfinite().all() and (gradient[:, masked] == 0).all()
    q, p = student.double().softmax(1), teacher.double().softmax(1)
    value = kdops.dist_loss(student, teacher, intra_weight=0.0)
    expected = torch.stack(
        [1 - torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(q, p, strict=True)]
    )
    assert value.item() == pytest.approx(expected.mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ([0.0, -INF, -INF], [1.0, -INF, -INF], 0.0),  # one class alone
        ([-INF, 1.0, 2.0], [-INF, 1.0, 2.0], 0.0),  # the label masked
        ([0.0, 1.0, -INF], [1.0, 2.0, 3.0], INF),
        ([-INF, 1.0, 2.0], [1.0, 2.0, 3.0], INF),
        ([0.0, -INF, -INF], [1.0, 2.0, 3.0], INF),
        ([0.0, 1.0, 2.0], [1.0, -INF, -INF], 16 * math.log(1 + math.exp(0.25) + math.exp(0.5))),
        ([-INF] * 3, [1.0, 2.0, 3.0], NAN),
        ([NAN, 1.0, 2.0], [1.0, 2.0, 3.0], NAN),
        ([INF, 1.0, 2.0], [1.0, 2.0, 3.0], NAN),
    ],
    ids=str,
)
def test_infinite_logits(backend, student, teacher, expected):
    """As in kd_loss; the other rows are not touched."""
    clean = [torch.cat([x[:1, :3], x[:1, :3]]) for x in logits()]
    spoiled = [x.clone() for x in clean]
    spoiled[0][1], spoiled[1][1] = torch.tensor(student), torch.tensor(teacher)
    target = torch.tensor([1, 0])
    value, gradient = dkd(*spoiled, target, reduction="none")
    assert value[1].item() == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert gradient[1].isfinite().all() == (not math.isnan(expected))
    before = dkd(*clean, target, reduction="none")
    assert value[0] == before[0][0] and torch.equal(gradient[0], before[1][0])


@pytest.mark.parametrize("spoil", [NAN, INF, -INF])
@pytest.mark.parametrize("ignore_index", [-100, 2])
def test_ignored_rows_give_exactly_zero(backend, spoil, ignore_index):
    student, teacher = logits()
    target = torch.tensor([0, ignore_index, 1, 3, ignore_index, 4])
    kept = target != ignore_index
    expected = dkd(student[kept], teacher[kept], target[kept])
    student[~kept], teacher[~kept] = spoil, spoil
    value, gradient = dkd(student, teacher, target, ignore_index=ignore_index)
    torch.testing.assert_close(value, expected[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient[kept], expected[1], rtol=1e-5, atol=1e-7)
    assert (gradient[~kept] == 0).all()
    value, gradient = dkd(student[~kept], teacher[~kept], target[~kept], ignore_index=ignore_index)
    assert value == 0 and (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 100.0])
def test_dist_keeps_its_digits(scale, dtype):
    """Nearly equal logits and tiny probabilities, in each type as in float64."""
    student, teacher = logits(12, 8, dtype, scale)
    for temperature in (1.0, 4.0, 1e3):
        options = {"temperature": temperature}
        value, gradient = value_and_gradient(kdops.dist_loss, student, teacher, **options)
        exact, slope = in_float64(kdops.dist_loss, student, teacher, **options)
        assert value_error(value, exact) < 1e-5 and gradient_error(gradient, slope) < 1e-4
        if dtype == torch.float64 and 1e-3 <= scale / temperature <= 1:
            expected = published.dist(student, teacher, temperature)
            assert value.item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("side", [0, 1], ids=["student", "teacher"])
def test_constant_rows_of_dist(side):
    """A constant row correlates with nothing, two of them do; no gradient blows up."""
    pair = [*logits()]
    pair[side][2] = 7.0
    options = {"intra_weight": 0.0}
    value, gradient = value_and_gradient(kdops.dist_loss, *pair, **options)
    others = [torch.cat([x[:2], x[3:]]) for x in pair]
    assert value.item() == pytest.approx((5 * kdops.dist_loss(*others, **options).item() + 1) / 6)
    assert (gradient[2] == 0).all() and gradient.isfinite().all()
    pair[1 - side][2] = -3.0
    assert kdops.dist_loss(*pair, **options).item() == pytest.approx(value.item() - 1 / 6)
    same = [torch.zeros_like(x) for x in pair]
    assert kdops.dist_loss(*same) == 0
    assert kdops.dist_loss(logits()[0], same[1]) == kdops.dist_loss(same[0], logits()[1]) == 2


def test_one_row_of_dist_has_no_columns():
    student, teacher = (x[:1] for x in logits())
    value, gradient = value_and_gradient(kdops.dist_loss, student, teacher)
    expected = value_and_gradient(kdops.dist_loss, student, teacher, intra_weight=0.0)
    assert value == expected[0] > 0 and torch.equal(gradient, expected[1])


def test_leading_dimensions_are_rows(backend):
    student, teacher = logits(rows=24)
    target = torch.arange(24) % 5
    shaped = [x.view(2, 3, 4, 5) for x in (student, teacher)]
    torch.testing.assert_close(kdops.dist_loss(*shaped), kdops.dist_loss(student, teacher))
    value = kdops.dkd_loss(*shaped, target.view(2, 3, 4), reduction="none")
    assert torch.equal(value.flatten(), kdops.dkd_loss(student, teacher, target, reduction="none"))
    rows = kdops.standardize_logits(shaped[0]).view(24, 5)
    assert torch.equal(rows, kdops.standardize_logits(student))


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_standardized_rows(eps, unbiased):
    x, _ = logits(dtype=torch.float64)
    expected = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True, correction=unbiased) + eps)
    value = kdops.standardize_logits(x, unbiased=unbiased, eps=eps)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("eps", [0.0, 1e-7])
@pytest.mark.parametrize("level", [0.0, 3.3, 1e30, -1e-30])
def test_standardizing_a_constant_row(eps, level):
    """0, and no gradient of 1 / eps; one class is one constant row."""
    x, upstream = logits()
    x[2] = level
    value, gradient = value_and_gradient(
        kdops.standardize_logits, x, None, lambda _: upstream, eps=eps
    )
    assert (value[2] == 0).all() and (gradient[2] == 0).all()
    assert value[[0, 1, 3]].abs().amax() > 1 and gradient.abs().amax() < 10
    single = kdops.standardize_logits(torch.full((3, 1), level), eps=eps)
    assert (single == 0).all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_standardizing_any_scale(scale):
    x, upstream = logits()
    value, gradient = value_and_gradient(
        kdops.standardize_logits, scale * x, None, lambda _: upstream
    )
    exact, slope = value_and_gradient(
        kdops.standardize_logits, (scale * x).double(), None, lambda _: upstream.double()
    )
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double() * scale, slope * scale, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_standardizing_half_logits(dtype):
    """6e4 overflows when squared, an offset of 1e3 leaves few digits: float32 inside."""
    for x in (3e4 * logits()[0].clamp(-2, 2), 1e3 + logits()[0]):
        x = x.to(dtype)
        value = kdops.standardize_logits(x)
        assert value.dtype == torch.float32
        exact = kdops.standardize_logits(x.double())
        torch.testing.assert_close(value, exact.float(), rtol=1e-5, atol=1e-5)


def test_standardizing_infinite_logits():
    x, _ = logits()
    clean = kdops.standardize_logits(x)
    for spoil in (NAN, INF, -INF):
        x[1, 2] = spoil
        value = kdops.standardize_logits(x)
        assert value[1].isnan().all() and torch.equal(value[[0, 2, 3]], clean[[0, 2, 3]])
