"""How far a result is from the exact one, each metric one number."""

import torch
from torch import Tensor

from kdops import reference

from .cases import call


def upstream(value: Tensor, seed: int = 1) -> Tensor:
    """A random upstream gradient, the same numbers in every type and on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(value.shape, generator=generator).to(value)


def value_and_gradient(function, student, teacher, weights=torch.ones_like, **kwargs):
    """The value, and the student's gradient for the upstream gradient weights(value)."""
    student = student.detach().clone().requires_grad_()
    value = call(function, student, teacher, **kwargs)
    (gradient,) = torch.autograd.grad(value, student, weights(value.detach()))
    return value.detach(), gradient


def oracle(case, student, teacher, weights=torch.ones_like, **kwargs):
    """The reference in float64, on inputs that keep their rounding."""
    student, teacher = student.double(), None if teacher is None else teacher.double()
    value, gradient = value_and_gradient(case.reference, student, teacher, weights, **kwargs)
    if case.stem == "soft_cross_entropy":  # of the same gradient the form that does not cancel
        _, gradient = value_and_gradient(reference.kd_loss, student, teacher, weights, **kwargs)
    return value, gradient


def value_error(actual: Tensor, exact: Tensor, absolute: bool = False, floor: float = 0.0) -> float:
    """Largest relative (or absolute) error; inf for a NaN; what overflows must be inf.

    A value below `floor` is compared with the floor.
    """
    exact = torch.where(exact.abs() > torch.finfo(actual.dtype).max, exact * torch.inf, exact)
    error = (actual.double() - exact).abs()
    if not absolute:
        error = error / exact.abs().clamp(min=floor or torch.finfo(torch.float64).tiny)
    error = torch.where(actual.double() == exact, 0.0, error)
    return error.nan_to_num(torch.inf, torch.inf).amax().item() if error.numel() else 0.0


def gradient_error(actual: Tensor, exact: Tensor) -> float:
    """|g - r| / |r|, after the rounding to a half type has been taken off."""
    if actual.dtype in (torch.bfloat16, torch.float16):
        unit = torch.finfo(actual.dtype)
        least = unit.smallest_normal * unit.eps
        overflow = exact.abs() > unit.max
        slack = (exact.abs() * unit.eps).clamp(min=least)
        error = torch.where(overflow, 0.0, (actual.double() - exact).abs() - slack).clamp(min=0)
        error = error.where(~actual.isnan(), torch.inf)
        exact = exact.where(~overflow, 0.0)
    else:
        error = (actual.double() - exact).abs()
    # In units of the largest entry: squares of tiny gradients would vanish.
    scale = exact.abs().amax().item() if exact.numel() else 0.0
    if scale == 0:
        return error.amax().item() if error.numel() else 0.0
    relative = (error / scale).norm() / (exact / scale).norm()
    return relative.nan_to_num(torch.inf).item()
