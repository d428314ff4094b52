"""Awkward features: few rows, equal rows, zero rows, NaN, and scales at the end of the range."""

import math

import pytest
import torch

import kdops

from .cases import MAPS, ONE_TO_MANY, PAIR_LOSSES, PLAIN, generator, small_inputs
from .metrics import value_and_gradient, value_error

PAIRS = [case for case in PLAIN if case.kind == "pairs"]
each = pytest.mark.parametrize("case", PAIR_LOSSES, ids=lambda case: case.name)
plain = pytest.mark.parametrize("case", PAIRS, ids=lambda case: case.stem)
SCALED = [
    kdops.rkd_distance_loss,
    kdops.rkd_angle_loss,
    kdops.irg_edge_loss,
    kdops.cckd_loss,
    kdops.pkt_loss,
    kdops.sp_loss,
]
MEASURES = SCALED[:3]
MEASURE_NAMES = {function.__name__ for function in MEASURES}
scaled = pytest.mark.parametrize("function", SCALED, ids=lambda function: function.__name__)
measures = pytest.mark.parametrize("function", MEASURES, ids=lambda function: function.__name__)


def features(rows=6, columns=5, seed=0, dtype=torch.float32):
    return torch.randn((2, rows, columns), generator=generator(seed)).to(dtype).unbind()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("rows", [0, 1])
@each
def test_no_pairs(backend, case, rows, reduction):
    student, teacher, kwargs = case.make_inputs((rows, 5), torch.float32, generator())
    value, gradient = value_and_gradient(
        case.function, student, teacher, reduction=reduction, **kwargs
    )
    # A correlation has a diagonal: 1 in both maps, as far as a row of length 1 can be had.
    bound = 0 if case.stem in MEASURE_NAMES else 1e-12
    assert (value <= bound).all() and (gradient.abs() <= bound**0.5).all()
    assert gradient.shape == (rows, 5)
    dimensions = {"rkd_angle_loss": 3, "pkt_loss": 1}.get(case.stem, 2)
    assert value.shape == ((rows,) * dimensions if reduction == "none" else ())


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("case", MAPS, ids=lambda case: case.name)
def test_map_of_no_pairs(backend, case, rows):
    x, _, kwargs = case.make_inputs((rows, 5), torch.float32, generator())
    value, gradient = value_and_gradient(case.function, x, None, **kwargs)
    assert value.shape == (rows,) * value.dim() and value.isfinite().all()
    assert (gradient.abs() < 1e-6).all() and gradient.shape == (rows, 5)


@measures
def test_two_rows(backend, function):
    """One pair is as long as the mean and the maximum, and no triplet is a true one."""
    value, gradient = value_and_gradient(function, *features(rows=2))
    assert value.item() == pytest.approx(0, abs=1e-14)
    assert (gradient.abs() < 1e-7).all()
    if function is kdops.rkd_angle_loss:
        assert value == 0 and (gradient == 0).all()


@plain
def test_one_column(backend, case):
    student, teacher = features(columns=1)
    value, gradient = value_and_gradient(case.function, student, teacher)
    exact = case.reference(student.double(), teacher.double())
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert gradient.isfinite().all()


@each
def test_other_width_of_the_teacher(backend, case):
    student, teacher, kwargs = small_inputs(case)
    exact = case.reference(student.double(), teacher[:, :3].double(), **kwargs)
    value = case.function(student, teacher[:, :3], **kwargs)
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("eps", [0.0, 1e-12])
@measures
def test_equal_rows(backend, function, eps):
    """A map that is 0 everywhere stays 0; with the published bound it is the published one."""
    options = {} if function is kdops.irg_edge_loss else {"eps": eps}
    if eps and not options:
        pytest.skip("the IRG edge has no bound")
    x, teacher = features()
    same = x[:1].expand_as(x).clone()
    for student, other in ((same, teacher), (x, same), (same, same)):
        value, gradient = value_and_gradient(function, student, other, **options)
        exact, _ = value_and_gradient(function, student.double(), other.double(), **options)
        assert value.isfinite() and value.item() == pytest.approx(exact.item(), rel=1e-5)
        if student is same:
            assert (gradient == 0).all()
        assert gradient.isfinite().all()
    assert value == 0


def test_equal_rows_give_the_published_distances(backend):
    """At eps = 1e-12 all pairs are 1e-6 apart, and 1 after the division by their mean."""
    same = torch.ones(5, 3)
    d = kdops.pairwise_distance(same, eps=1e-12)
    assert torch.equal(d, 1e-6 * (1 - torch.eye(5)))
    normalised = kdops.pairwise_distance(same, normalize="mean", eps=1e-12)
    torch.testing.assert_close(normalised, 1 - torch.eye(5), rtol=2e-7, atol=0)
    x, _ = features(rows=5, columns=3)
    d = kdops.pairwise_distance(x.double())
    u = d / (d.sum() / 20) - (1 - torch.eye(5))
    huber = torch.where(u.abs() < 1, u * u / 2, u.abs() - 0.5).mean()
    value = kdops.rkd_distance_loss(x, same, eps=1e-12)
    assert value.item() == pytest.approx(huber.item(), rel=1e-6)


@pytest.mark.parametrize("eps", [0.0, 1e-12])
@scaled
def test_duplicate_pair(backend, function, eps):
    """No gradient explodes: at most four times that of the batch without the pair."""
    student, teacher = features(rows=9)
    options = {"eps": eps} if function in MEASURES[:2] else {}
    apart = value_and_gradient(function, student[:-1], teacher[:-1], **options)[1].abs().amax()
    student[-1] = student[0]
    value, gradient = value_and_gradient(function, student, teacher, **options)
    exact, _ = value_and_gradient(function, student.double(), teacher.double(), **options)
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    assert gradient.isfinite().all() and gradient.abs().amax() <= 4 * apart


@scaled
def test_near_duplicate_pair(backend, function):
    """A pair that is not exactly equal counts, however near it is."""
    student, teacher = features(rows=9, dtype=torch.float64)
    student[-1] = student[0]
    student[-1, 0] += 2.0**-20
    student = student.float()
    value, gradient = value_and_gradient(function, student, teacher.float())
    exact = value_and_gradient(function, student.double(), teacher.float().double())
    assert value.item() == pytest.approx(exact[0].item(), rel=1e-5)
    error = (gradient.double() - exact[1]).norm() / exact[1].norm()
    assert error < 1e-4


def test_zero_row_of_a_correlation(backend):
    student, teacher = features()
    student[2] = 0
    value, gradient = value_and_gradient(kdops.cckd_loss, student, teacher)
    exact = value_and_gradient(kdops.cckd_loss, student.double(), teacher.double())
    assert (gradient[2] == 0).all() and gradient.abs().amax() < 10
    assert value.item() == pytest.approx(exact[0].item(), rel=1e-6)
    torch.testing.assert_close(gradient, exact[1].float(), rtol=1e-4, atol=1e-7)


@scaled
def test_all_zero(backend, function):
    value, gradient = value_and_gradient(function, torch.zeros(4, 3), torch.zeros(4, 3))
    assert value == 0 and (gradient == 0).all()


@pytest.mark.parametrize("spoil", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["student", "teacher"])
@each
def test_nan_and_infinity(backend, case, side, spoil):
    """Each entry depends on all rows, so all is NaN; never a finite loss."""
    for row, column in ((0, 0), (3, 2), (5, 4)):
        student, teacher, kwargs = small_inputs(case)
        (student if side == "student" else teacher)[row, column] = spoil
        value, gradient = value_and_gradient(case.function, student, teacher, **kwargs)
        assert not value.isfinite()
        assert not gradient.isfinite().any() or case.stem == "cckd_loss"
        assert not gradient.isfinite().all()


@pytest.mark.parametrize("spoil", [math.nan, math.inf])
@pytest.mark.parametrize("case", MAPS, ids=lambda case: case.name)
def test_nan_in_a_map(backend, case, spoil):
    x, _, kwargs = small_inputs(case)
    x[2, 1] = spoil
    value = case.function(x, **kwargs)
    partners = [j for j in range(len(x)) if j != 2]
    entries = value[:, 2][partners] if value.dim() == 2 else value[partners][:, 2]
    assert not entries.isfinite().any()


@pytest.mark.parametrize("exponent", [-100, -50, 50, 100])
@scaled
def test_scales(backend, function, exponent):
    """A power of two cancels exactly: values to the bit, gradients by its inverse."""
    student, teacher = features()
    value, gradient = value_and_gradient(function, student, teacher)
    factor = 2.0**exponent
    moved, moved_gradient = value_and_gradient(function, student * factor, teacher * factor)
    assert torch.equal(moved, value)
    torch.testing.assert_close(
        moved_gradient.double() * factor, gradient.double(), rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("case", PAIRS, ids=lambda case: case.stem)
def test_ends_of_the_float32_range(backend, case, scale):
    student, teacher = features()
    value = case.function(student * scale, teacher * scale)
    exact = case.reference((student * scale).double(), (teacher * scale).double())
    assert value_error(value, exact) < 1e-5


def test_published_bound_hides_tiny_features(backend):
    """At 1e-25 every squared distance is below eps = 1e-12: all pairs look alike, as published."""
    student, teacher = (1e-25 * x for x in features())
    assert kdops.rkd_distance_loss(student, teacher, eps=1e-12) == 0
    assert kdops.rkd_distance_loss(student, teacher) > 1e-3
    # A length bound of 1e-12 leaves cosines of about 1e-26.
    assert kdops.rkd_angle_loss(student, teacher, eps=1e-12) < 1e-40
    assert kdops.rkd_angle_loss(student, teacher) > 1e-3


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float16, 40.0), (torch.float16, 1e-5), (torch.bfloat16, 1e4), (torch.float16, 1e4)],
    ids=str,
)
@scaled
def test_half_features(backend, function, dtype, scale):
    student, teacher = ((x * scale).to(dtype) for x in features(rows=9, columns=64))
    value, gradient = value_and_gradient(function, student, teacher)
    exact = value_and_gradient(function, student.double(), teacher.double())
    assert value.dtype == torch.float32 and value.item() == pytest.approx(exact[0].item(), rel=1e-5)
    assert gradient.dtype == dtype and gradient.isfinite().all()


@plain
def test_reductions_agree(backend, case):
    student, teacher = features()
    none, total, mean = (
        value_and_gradient(case.function, student, teacher, reduction=reduction)
        for reduction in ("none", "sum", "mean")
    )
    torch.testing.assert_close(total[0], none[0].sum(), rtol=2e-6, atol=0)
    terms = len(student) ** 2 if case.stem == "pkt_loss" else none[0].numel()  # one value a row
    torch.testing.assert_close(mean[0] * terms, total[0], rtol=2e-6, atol=0)
    torch.testing.assert_close(total[1], none[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean[1] * terms, none[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ONE_TO_MANY, ids=lambda case: case.name)
def test_one_bad_layer_spoils_the_sum(backend, case):
    student, teacher = features()
    bad = student.clone()
    bad[0, 0] = math.nan
    assert case.function([student, bad], teacher).isnan()
