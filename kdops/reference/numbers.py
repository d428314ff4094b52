"""Accumulation types, exact scaling, and functions with a subgradient of 0 where they have none."""

import torch
from torch import Tensor

TINY = 2.0**-120  # keeps a scale factor finite for subnormal inputs


def accumulation(x: Tensor) -> Tensor:
    """float64 stays, every other type is computed in float32."""
    return x if x.dtype == torch.float64 else x.float()


def power_of_two(x: Tensor, dim: int | None = None, floor: float = 0.0) -> Tensor:
    """The power of two that brings the largest of |x| and floor into [1/2, 1): an exact scaling."""
    if x.numel() == 0:
        return x.new_ones(())
    magnitude = x.detach().abs()
    largest = magnitude.amax() if dim is None else magnitude.amax(dim, keepdim=True)
    largest = largest.clamp(min=max(floor, TINY))
    return torch.frexp(largest).mantissa / largest


def root(x: Tensor) -> Tensor:
    """sqrt(x), with value and subgradient 0 at 0."""
    zero = x == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())


def over(x: Tensor, y: Tensor) -> Tensor:
    """x / y, with value and subgradient 0 where y is 0."""
    zero = y == 0
    return torch.where(zero, 0.0, x / torch.where(zero, 1.0, y))
