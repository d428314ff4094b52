"""The map of distances of a batch (RKD's, and IRG's when squared)."""

from torch import Tensor

from .. import _checks, reference
from .._native import define
from ._dispatch import Scalars, Tensors
from ._maps import Map, map_output

NORMALIZERS = {None: 0, "mean": 1, "max": 2}  # the native ops' numbers

_op = define(
    "_pairwise_distance(Tensor x, bool squared, int normalize, float eps) -> Tensor",
    lambda x, squared, normalize, eps: map_output(x, 2),
)
_backward = define(
    "_pairwise_distance_backward(Tensor upstream, Tensor x, bool squared, int normalize, "
    "float eps) -> Tensor",
    lambda upstream, x, squared, normalize, eps: x.new_empty(x.shape),
)


def _formula(tensors: Tensors, scalars: Scalars) -> Tensor:
    squared, normalize, eps = scalars
    name = {number: name for name, number in NORMALIZERS.items()}[normalize]
    return reference.pairwise_distance(*tensors, squared=squared, normalize=name, eps=eps)


_map = Map("pairwise_distance", _op, _backward, _formula)


def pairwise_distance(
    x: Tensor, *, squared: bool = False, normalize: str | None = None, eps: float = 0.0
) -> Tensor:
    """Distances |x_i - x_j| of all pairs of rows, by direct differences.

    Args:
        x: (N, D) features, D >= 1; float32, float64, bfloat16 or float16.
        squared: whether to give |x_i - x_j|^2.
        normalize: None; 'mean' divides by the mean over the N (N - 1) ordered pairs, duplicates
            included; 'max' by the maximum. Both take part in the gradient; ties share it evenly. A
            map that is all 0 stays 0.
        eps: lower bound of the squared length off the diagonal, >= 0.
    Returns:
        (N, N), symmetric, its diagonal exactly 0; float32, float64 for float64 inputs.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
    Gradient:
        To x, in its type; a pair at distance 0 or below eps has subgradient 0. Second derivatives
        go through the reference. Bitwise repeatable on any number of threads.
    Source: Park et al., 2019, "Relational Knowledge Distillation", equation 6 ('mean'); Liu et
        al., 2019, "Knowledge Distillation via Instance Relationship Graph" (squared, 'max').

    >>> edges = pairwise_distance(torch.randn(64, 128), squared=True, normalize="max")
    """
    _checks.one_of("pairwise_distance", "normalize", normalize, NORMALIZERS)
    _checks.number("pairwise_distance", "eps", eps, low=0)
    return _map(x, (squared, NORMALIZERS[normalize], eps))
