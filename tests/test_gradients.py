"""First and second derivatives against finite differences, in float64."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from .cases import BY_NAME, CASES, LOSSES, ONE_TO_MANY, call, small_inputs

REDUCTIONS = {"rows": ("batchmean", "mean", "sum", "none"), "pairs": ("mean", "sum", "none")}
SHAPES = {"rows": (4, 5), "pairs": (4, 3), "map": (4, 3)}
EVERYTHING = {
    "fast_mode": False,
    "check_batched_grad": True,
    "check_undefined_grad": True,
    "check_grad_dtypes": True,
    "nondet_tol": 0.0,
}
ONCE = {**EVERYTHING, "check_batched_grad": False}  # minutes in the second order


def double(case, seed=0):
    student, teacher, kwargs = small_inputs(case, torch.float64, seed, SHAPES[case.kind])
    return student.requires_grad_(), teacher, kwargs


# The hard term does not read the teacher.
TAUGHT = [case for case in LOSSES if case.name != "kd_loss-hard"]


def with_reductions(cases):
    return [
        pytest.param(case, reduction, id=f"{case.name}-{reduction}")
        for case in cases
        for reduction in REDUCTIONS[case.kind]
    ]


@pytest.mark.parametrize(("case", "reduction"), with_reductions(LOSSES))
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_student(backend, case, reduction, check):
    student, teacher, kwargs = double(case)

    def loss(student):
        return case.function(student, teacher, reduction=reduction, **kwargs)

    options = EVERYTHING if check is gradcheck else ONCE
    assert check(loss, (student,), **options)


@pytest.mark.parametrize(("case", "reduction"), with_reductions(TAUGHT))
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_student_and_teacher(backend, case, reduction, check):
    student, teacher, kwargs = double(case)

    def loss(student, teacher):
        return case.function(student, teacher, reduction=reduction, teacher_grad=True, **kwargs)

    assert check(loss, (student, teacher.requires_grad_()), fast_mode=False, nondet_tol=0.0)


@pytest.mark.parametrize("case", TAUGHT, ids=lambda case: case.name)
def test_teacher_alone(backend, case):
    student, teacher, kwargs = double(case)

    def loss(teacher):
        return case.function(student.detach(), teacher, teacher_grad=True, **kwargs)

    assert gradcheck(loss, (teacher.requires_grad_(),), fast_mode=False, nondet_tol=0.0)


@pytest.mark.parametrize("case", ONE_TO_MANY, ids=lambda case: case.name)
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_list_of_students(backend, case, check):
    student, teacher, kwargs = double(case)
    other = double(case, seed=1)[0].detach()[:, :2].clone().requires_grad_()

    def loss(student, other, teacher):
        return case.function([student, other], teacher, teacher_grad=True, **kwargs)

    assert check(loss, (student, other, teacher.requires_grad_()), fast_mode=False, nondet_tol=0.0)


@pytest.mark.parametrize("case", [c for c in CASES if c.kind == "map"], ids=lambda case: case.name)
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_map(backend, case, check):
    x, _, kwargs = double(case)
    options = EVERYTHING if check is gradcheck else ONCE
    assert check(lambda x: case.function(x, **kwargs), (x,), **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kd_loss", {"temperature": 0.7, "scale_t2": False}),
        ("kd_loss-labels", {"ignore_index": 1}),
        ("soft_cross_entropy", {"scale_t2": False}),
        ("rkd_distance_loss", {"eps": 1e-12}),
        ("rkd_angle_loss", {"eps": 1e-12}),
        ("cckd_loss", {"normalize": False}),
        ("cckd_loss", {"normalize": False, "order": None}),
        ("cckd_loss", {"order": 8, "gamma": 2.0}),
        ("pkt_loss", {"eps": 1e-3}),
        ("pkt_loss", {"divergence": "jeffreys"}),
        ("pkt_loss", {"include_self": False}),
        ("pkt_loss-student_t", {"divergence": "jeffreys", "include_self": False}),
        ("pkt_loss-student_t", {"eps": 1e-3}),
        ("sp_loss", {"norm": 1}),
        ("rbf_correlation", {"normalize": False}),
        ("rbf_correlation", {"normalize": False, "order": None}),
        ("pairwise_distance", {"eps": 1.0}),
    ],
    ids=str,
)
def test_options(backend, name, options):
    student, teacher, kwargs = double(BY_NAME[name])
    kwargs = {**kwargs, **options}
    if "ignore_index" in options:
        kwargs["target"] = kwargs["target"].clamp(min=0)

    def loss(student):
        return call(BY_NAME[name].function, student, teacher, **kwargs)

    assert gradcheck(loss, (student,), fast_mode=False, nondet_tol=0.0)
    assert gradgradcheck(loss, (student,), fast_mode=False, nondet_tol=0.0)


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)
def test_larger_batch_in_random_directions(backend, case):
    """Past one tile and one block of rows, where gradcheck of every entry would be slow."""
    shape = (40, 70) if case.kind == "rows" else (37, 19)
    student, teacher, kwargs = case.make_inputs(
        shape, torch.float64, torch.Generator().manual_seed(0)
    )
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(case.function(student, teacher, **kwargs), student)
    for seed in range(3):
        direction = torch.randn(
            shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        step = 1e-6 * direction
        with torch.no_grad():
            ahead = case.function(student + step, teacher, **kwargs)
            behind = case.function(student - step, teacher, **kwargs)
        expected = (ahead - behind) / 2e-6
        assert (gradient * direction).sum().item() == pytest.approx(
            expected.item(), rel=1e-6, abs=1e-9
        )
