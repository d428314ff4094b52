"""First and second derivatives of composed losses, and which tensor gets one."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import kdops
from kdops import nn

from .relatives import RELATIVES, gradients

each = pytest.mark.parametrize("loss", RELATIVES, ids=lambda loss: loss.name)
EXACT = {"fast_mode": False, "nondet_tol": 0.0}


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
@each
def test_student_and_teacher(backend, loss, check):
    """teacher_grad gives the true gradient, to second order."""
    student, teacher = loss.inputs()
    count = len(student)

    def value(*tensors):
        return loss(tensors[:count], tensors[count:], teacher_grad=True)

    assert check(value, [x.requires_grad_() for x in student + teacher], **EXACT)


REDUCED = [
    pytest.param(loss, reduction, id=f"{loss.name}-{reduction}")
    for loss in RELATIVES
    for reduction in loss.reductions
]


@pytest.mark.parametrize(("loss", "reduction"), REDUCED)
def test_reduction(loss, reduction):
    student, teacher = loss.inputs(seed=1)

    def value(*student):
        return loss(student, teacher, reduction=reduction)

    student = [x.requires_grad_() for x in student]
    assert gradcheck(value, student, check_batched_grad=True, **EXACT)


COUNTS = {  # of what 'mean' and 'batchmean' divide by; four samples, one of them ignored by DKD
    "at_loss": (4 * 4, 4),
    "at_loss-paper": (4, 4),
    "fsp_loss": (4 * 2 * 3, 4),
    "hint_loss": (4 * 8, 4),
    "vid_loss": (4 * 8, 4),
    "dkd_loss": (3, 3),
    "irg_transform_loss": (4, None),
    "cckd_loss-mmd": (16, None),
}


@pytest.mark.parametrize("name", COUNTS)
def test_reductions_agree(backend, name):
    loss = next(loss for loss in RELATIVES if loss.name == name)
    student, teacher = loss.inputs()
    total = loss(student, teacher, reduction="sum")
    if "none" in loss.reductions:
        torch.testing.assert_close(loss(student, teacher, reduction="none").sum(), total)
    for reduction, count in zip(("mean", "batchmean"), COUNTS[name], strict=True):
        if count:
            torch.testing.assert_close(loss(student, teacher, reduction=reduction) * count, total)


@each
def test_teacher_gets_a_gradient_where_asked_alone(backend, loss):
    student, teacher = loss.inputs()
    expected = gradients(loss, student, teacher)[1]
    teacher = [x.requires_grad_() for x in teacher]
    assert not loss(student, teacher).requires_grad
    student = [x.requires_grad_() for x in student]
    loss(student, teacher).sum().backward()
    assert all(x.grad is None for x in teacher)
    torch.testing.assert_close([x.grad for x in student], expected)
    loss(student, teacher, teacher_grad=True).sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in teacher)
    frozen = [x.detach() for x in student]
    assert loss(frozen, teacher, teacher_grad=True).requires_grad


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_variance(check):
    student, teacher = torch.randn(2, 3, 2, 2, dtype=torch.float64).unbind()
    variance = torch.tensor([0.7, 3.0], dtype=torch.float64, requires_grad=True)
    assert check(lambda v: kdops.vid_loss(student, teacher, v), (variance,), **EXACT)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("eps", [0.0, 1e-2])
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_standardize_logits(check, eps, unbiased):
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)

    def value(x):
        return kdops.standardize_logits(x, unbiased=unbiased, eps=eps)

    assert check(value, (x,), **EXACT)


@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_powers_of_attention(check):
    """At p = 1 where no activation is 0, at p = 2 also where some are, as after ReLU."""
    x, teacher = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64).unbind()
    for p, student in ((1, x), (2, x.relu())):
        student = student.detach().requires_grad_()
        assert check(lambda x, p=p: kdops.at_loss(x, teacher, p=p), (student,), **EXACT)


def test_regressors_and_variances_are_trained():
    """A hint's regressor, VID's regressor and its variances get a gradient; the teacher none."""
    student = torch.randn(3, 2, 4, 4, requires_grad=True)
    teacher = torch.randn(3, 5, 4, 4, requires_grad=True)
    regressor, vid = nn.HintRegressor((2, 4, 4), (5, 4, 4)), nn.VIDLoss(2, 5)
    (kdops.hint_loss(regressor(student), teacher) + vid(student, teacher)).backward()
    for x in (student, *regressor.parameters(), *vid.parameters()):
        assert x.grad.abs().sum() > 0
    assert len(list(vid.parameters())) == 7 and teacher.grad is None
