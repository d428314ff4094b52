"""Maps of a batch of feature vectors: squared distances, distances, angles, correlations."""

import math

import torch
from torch import Tensor

from .numbers import accumulation, over, power_of_two, root
from .share import WHOLE, Share


def bounded(x: Tensor, eps: float | Tensor, share: Share = WHOLE) -> Tensor:
    """Squared distances bounded below by eps off the diagonal, which keeps its 0 (or NaN)."""
    squared = share.squared_distances(x)
    return torch.where(share.off_diagonal(x), squared.clamp(min=eps), squared)


def mean_distance(d: Tensor, share: Share = WHOLE) -> Tensor:
    """Mean over the N (N - 1) ordered pairs, 0 when there is none."""
    rows = d.shape[1]  # len() would fix it in an exported program
    return share.total(d) / max(1, rows * (rows - 1))


def mean_normalised_distances(x: Tensor, eps: float, share: Share = WHOLE) -> Tensor:
    """Distances over their mean; the power of two cancels in the quotient."""
    scale = power_of_two(x, floor=math.sqrt(eps))
    d = root(bounded(x * scale, eps * scale * scale, share))
    return over(d, mean_distance(d, share))


def max_normalised_squared_distances(x: Tensor, share: Share = WHOLE) -> Tensor:
    """Squared distances over their maximum, which takes part in the gradient."""
    squared = share.squared_distances(x * power_of_two(x))
    return over(squared, share.largest(squared)) if x.numel() else squared


def pairwise_distance(
    x: Tensor, *, squared: bool = False, normalize: str | None = None, eps: float = 0.0
) -> Tensor:
    x = accumulation(x)
    scale = power_of_two(x, floor=math.sqrt(eps))
    s = bounded(x * scale, eps * scale * scale)
    d = s if squared else root(s)
    if normalize == "mean":
        return over(d, mean_distance(d))
    if normalize == "max":
        return over(d, d.amax()) if d.numel() else d
    return d / scale / scale if squared else d / scale


def triplet_angle(x: Tensor, *, eps: float = 0.0, share: Share = WHOLE) -> Tensor:
    x = accumulation(x)
    scale = power_of_two(x, floor=eps)
    x = x * scale
    difference = x[None] - share.rows(x)[:, None]
    length = root(difference.square().sum(-1, keepdim=True))
    bounded = torch.where(length == 0, 0.0, length.clamp(min=eps * scale))
    unit = over(difference, bounded)
    return unit @ unit.mT


def unit_rows(x: Tensor) -> Tensor:
    """Rows over their length; a zero row stays 0 and gets no gradient."""
    x = x * power_of_two(x, dim=-1)
    return over(x, root(x.square().sum(-1, keepdim=True)))


def taylor_coefficients(gamma: float, order: int) -> list[float]:
    """exp(-2 gamma) (2 gamma)^p / p! for p = 0..order: exp(-gamma |x-y|^2) of unit rows."""
    return [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]


def correlation(x: Tensor, kernel: str, normalize: bool, share: Share = WHOLE) -> Tensor:
    """Inner products, or distances of the rows' means."""
    if normalize:
        x = unit_rows(x)
    if kernel == "bilinear":
        return share.products(x)
    mean = x.mean(1)
    return (share.rows(mean)[:, None] - mean[None]).abs()


def rbf_correlation(
    x: Tensor,
    *,
    gamma: float = 0.4,
    order: int | None = 2,
    normalize: bool = True,
    share: Share = WHOLE,
) -> Tensor:
    x = accumulation(x)
    if normalize and x.numel():
        x = unit_rows(x)
    if order is None:
        return torch.exp(-gamma * share.squared_distances(x))
    gram = share.products(x)
    value = torch.zeros_like(gram)
    for coefficient in reversed(taylor_coefficients(gamma, order)):
        value = value * gram + coefficient
    return value
