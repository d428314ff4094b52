"""The map of RBF correlations of a batch (CCKD's)."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from .. import reference
from .._native import define
from . import _correlation
from ._dispatch import Scalars, Tensors
from ._maps import Map, map_output

_op = define(
    "_rbf_correlation(Tensor x, float gamma, float[] coefficients, bool normalize) -> Tensor",
    lambda x, gamma, coefficients, normalize: map_output(x, 2),
)
_backward = define(
    "_rbf_correlation_backward(Tensor upstream, Tensor x, float gamma, float[] coefficients, "
    "bool normalize) -> Tensor",
    lambda upstream, x, gamma, coefficients, normalize: x.new_empty(x.shape),
)


def _native(op: Callable[..., Any]) -> Callable[..., Tensor]:
    def call(*arguments: Any) -> Tensor:
        *tensors, gamma, order, normalize = arguments
        return op(*tensors, gamma, _correlation.coefficients(gamma, order), normalize)

    return call


def _formula(tensors: Tensors, scalars: Scalars) -> Tensor:
    gamma, order, normalize = scalars
    return reference.rbf_correlation(*tensors, gamma=gamma, order=order, normalize=normalize)


_map = Map("rbf_correlation", _native(_op), _native(_backward), _formula)


def rbf_correlation(
    x: Tensor, *, gamma: float = 0.4, order: int | None = 2, normalize: bool = True
) -> Tensor:
    """Gaussian RBF correlation of all pairs of rows, exact or by its Taylor expansion.

        order=None:  K_ij = exp(-gamma |x_i - x_j|^2)
        order=P:     K_ij = sum_{p=0..P} exp(-2 gamma) (2 gamma)^p / p! <x_i, x_j>^p

    The expansion equals the exponential, up to its order, for rows of length 1 only.

    Args:
        x: (N, D) features, D >= 1; float32, float64, bfloat16 or float16.
        gamma: width of the kernel, in [0, 40].
        order: of the expansion, 0..8; None takes the exact exponential.
        normalize: whether rows are brought to length 1 first; a zero row stays 0.
    Returns:
        (N, N), symmetric, on the kernels to the bit; float32, float64 for float64 inputs.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
    Gradient:
        To x, in its type; a zero row gets none under `normalize`. Second derivatives go through
        the reference. Bitwise repeatable on any number of threads.
    Source: Peng et al., 2019, "Correlation Congruence for Knowledge Distillation", section 3.3.
    """
    _correlation.check("rbf_correlation", gamma, order)
    return _map(x, (gamma, order, normalize))
