"""The classes of kdops.compat.kd_lib against KD_Lib's formulas: values and gradients."""

import inspect
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import kdops
from kdops.compat import kd_lib

from ..metrics import gradient_error

PAGE = Path(__file__).parents[2] / "docs" / "migrate" / "kd_lib.md"
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def distances(x):
    """From the Gram matrix, at least 1e-5, over the mean of the positive ones plus 1e-7."""
    norms = x.pow(2).sum(1)
    d = (norms[None] + norms[:, None] - 2 * x @ x.t()).clamp(min=1e-10).sqrt()
    d = d * (1 - torch.eye(len(x), dtype=x.dtype))
    return d / (d[d > 0].mean() + 1e-7)


def distance_loss(teacher, student):
    return F.smooth_l1_loss(distances(student), distances(teacher.detach()))


def angles(x, normalize):
    units = x[None] - x[:, None]
    units = F.normalize(units, dim=2) if normalize else units
    return torch.einsum("ijd,ikd->ijk", units, units)


def angle_loss(teacher, student, normalize=True):
    return F.smooth_l1_loss(angles(student, normalize), angles(teacher.detach(), normalize))


def rkd_loss(dist_ratio=0.5, angle_ratio=0.5, normalize=True):
    def loss(teacher, student):
        angle = angle_loss(teacher, student, normalize)
        return angle_ratio * angle + dist_ratio * distance_loss(teacher, student)

    return loss


CASES = {
    "RKDDistanceLoss": (kd_lib.RKDDistanceLoss(), distance_loss),
    "RKDAngleLoss": (kd_lib.RKDAngleLoss(), angle_loss),
    "RKDAngleLoss, products": (
        lambda teacher, student: kd_lib.RKDAngleLoss()(teacher, student, normalize=False),
        lambda teacher, student: angle_loss(teacher, student, normalize=False),
    ),
    "RKDLoss": (kd_lib.RKDLoss(), rkd_loss()),
    "RKDLoss, weights": (kd_lib.RKDLoss(25, 50.0), rkd_loss(25, 50.0)),
    "RKDLoss, products": (kd_lib.RKDLoss(1, 2, False), rkd_loss(1, 2, False)),
}


def batch(seed, dtype, scale=1.0):
    """Teacher and student of random sizes, both asking for a gradient."""
    generator = torch.Generator().manual_seed(seed)
    rows, width, other = torch.randint(4, 20, (3,), generator=generator).tolist()
    pair = (torch.randn(rows, n, generator=generator, dtype=torch.float64) for n in (width, other))
    return [(scale * x).to(dtype).requires_grad_() for x in pair]


@DTYPES
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_digit(backend, name, dtype, seed):
    """The teacher comes first and gets no gradient."""
    loss, formula = CASES[name]
    teacher, student = batch(seed, dtype)
    value, exact = loss(teacher, student), formula(teacher, student)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(value, exact, rtol=tolerance, atol=0)
    slope, none = torch.autograd.grad(exact, (student, teacher), allow_unused=True)
    gradient, nothing = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    assert gradient_error(gradient, slope.double()) < tolerance
    assert none is None and nothing is None


def test_the_mean_plus_1e_7_counts(backend):
    """Where distances are as small as that; the clean form does not know the scale."""
    teacher, student = batch(0, torch.float64, scale=1e-4)
    student.data *= 2
    value, exact = kd_lib.RKDDistanceLoss()(teacher, student), distance_loss(teacher, student)
    assert value.item() == pytest.approx(exact.item(), rel=1e-6)
    clean = kdops.rkd_distance_loss(student, teacher)
    assert value.item() != pytest.approx(clean.item(), rel=1e-4)
    assert clean.item() == pytest.approx(
        kdops.rkd_distance_loss(student.detach(), 1e4 * teacher).item(), rel=1e-9
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(backend, name, rows):
    """0, where KD_Lib's is NaN."""
    teacher, student = torch.randn(rows, 3), torch.randn(rows, 5, requires_grad=True)
    value = CASES[name][0](teacher, student)
    (gradient,) = torch.autograd.grad(value, student)
    assert value == 0 and (gradient == 0).all()


def test_a_duplicate(backend):
    """At the bound of 1e-5, and without the gradient that KD_Lib's rounding makes of it."""
    teacher, student = batch(1, torch.float64)
    with torch.no_grad():
        student[1] = student[0]
    value, exact = kd_lib.RKDLoss()(teacher, student), rkd_loss()(teacher, student)
    assert value.item() == pytest.approx(exact.item(), rel=1e-10)
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient.abs().amax() < 1


def test_signatures():
    def names(function):
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    empty = inspect.Parameter.empty
    pair = [("teacher", empty), ("student", empty)]
    assert names(kd_lib.RKDDistanceLoss().forward) == names(kd_lib.RKDLoss().forward) == pair
    assert names(kd_lib.RKDAngleLoss().forward) == [*pair, ("normalize", True)]
    ratios = [("dist_ratio", 0.5), ("angle_ratio", 0.5), ("normalize", True)]
    assert names(kd_lib.RKDLoss) == ratios


def test_bad_input():
    with pytest.raises(ValueError, match="RKDDistanceLoss: student and teacher must have the same"):
        kd_lib.RKDDistanceLoss()(torch.ones(3, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match="RKDAngleLoss: student must be"):
        kd_lib.RKDAngleLoss()(torch.ones(3, 2), torch.ones(3, 2, 2))


@pytest.mark.skipif(not PAGE.exists(), reason="not a source tree")
def test_the_page_has_a_row_of_each_class():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(kd_lib.__all__)
