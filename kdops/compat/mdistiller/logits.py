"""Losses of logits. The teacher gets a gradient, unless it comes without its graph."""

from torch import Tensor

from ... import functional
from .._zoos.logits import soft_targets


def kd_loss(logits_student: Tensor, logits_teacher: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over rows of KL(p || q), of the classes in dimension 1.

    Clean form: `kdops.kd_loss(logits_student, logits_teacher, temperature=temperature)`.
    Source: mdistiller, mdistiller/distillers/KD.py.
    """
    return soft_targets("kd_loss", logits_student, logits_teacher, temperature, per_position=True)


def dkd_loss(
    logits_student: Tensor,
    logits_teacher: Tensor,
    target: Tensor,
    alpha: float,
    beta: float,
    temperature: float,
) -> Tensor:
    """T^2 / N (alpha KL of (target, rest) + beta KL of the other classes among themselves).

    Where the target's probability rounds to 1 mdistiller takes the logarithm of 0; here the
    logarithms come from the logits. The teacher's gradient, NaN there from the target's
    probability of 0 in the second part, is finite. A target of -100 leaves its row out of the mean,
    which is an error there.
    Clean form: `kdops.dkd_loss`, whose options are target_weight and rest_weight.
    Source: mdistiller, mdistiller/distillers/DKD.py.
    """
    return functional.dkd_loss(
        logits_student,
        logits_teacher,
        target.reshape(-1),
        temperature=temperature,
        target_weight=alpha,
        rest_weight=beta,
        teacher_grad=True,
    )
