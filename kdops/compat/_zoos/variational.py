"""VID's parts: a regressor, and variances as softplus of what is learned."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import functional


def regressor(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(hidden, outputs, 1, bias=False),
    )


def raw_variance(channels: int, variance: float, eps: float) -> nn.Parameter:
    """softplus(raw) + eps = variance"""
    above = variance - eps
    return nn.Parameter(torch.full((channels,), above + math.log(-math.expm1(-above))))


def likelihood(prediction: Tensor, teacher: Tensor, raw: Tensor, eps: float) -> Tensor:
    variance = F.softplus(raw.to(prediction)) + eps
    return functional.vid_loss(prediction, teacher, variance, teacher_grad=True)
