"""The RBF correlation's parameters: their checks, and their form for the native ops."""

from .. import _checks
from ..reference.maps import taylor_coefficients

MAX_ORDER = 8


def check(function: str, gamma: float, order: int | None) -> None:
    """gamma in [0, 40], where exp(-2 gamma) is a normal float32; order None or 0..8."""
    _checks.number(function, "gamma", gamma, low=0)
    if gamma > 40:
        raise ValueError(f"{function}: gamma must be at most 40, got {gamma}")
    if order is None:
        return
    if isinstance(order, bool) or not isinstance(order, int):
        raise TypeError(f"{function}: order must be an int or None, got {type(order).__name__}")
    if not 0 <= order <= MAX_ORDER:
        raise ValueError(f"{function}: order must be in 0..{MAX_ORDER} or None, got {order}")


def coefficients(gamma: float, order: int | None) -> list[float]:
    """The polynomial in the cosine; empty for the exact exponential."""
    return [] if order is None else taylor_coefficients(gamma, order)
