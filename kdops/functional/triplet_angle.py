"""The map of the cosines of all triplets of a batch (RKD's)."""

from torch import Tensor

from .. import _checks, reference
from .._native import define
from ._dispatch import Scalars, Tensors
from ._maps import Map, map_output

_op = define("_triplet_angle(Tensor x, float eps) -> Tensor", lambda x, eps: map_output(x, 3))
_backward = define(
    "_triplet_angle_backward(Tensor upstream, Tensor x, float eps) -> Tensor",
    lambda upstream, x, eps: x.new_empty(x.shape),
)


def _formula(tensors: Tensors, scalars: Scalars) -> Tensor:
    return reference.triplet_angle(*tensors, eps=scalars[0])


_map = Map("triplet_angle", _op, _backward, _formula)


def triplet_angle(x: Tensor, *, eps: float = 0.0) -> Tensor:
    """Cosine of the angle at row i between rows j and k, for all triplets.

        cos_ijk = <e_ij, e_ik>,   e_ij = (x_j - x_i) / max(|x_j - x_i|, eps)

    The output has N^3 entries; `rkd_angle_loss` compares two such maps without building them.

    Args:
        x: (N, D) features, D >= 1; float32, float64, bfloat16 or float16.
        eps: lower bound of a pair's length, >= 0.
    Returns:
        (N, N, N), vertex first; float32, float64 for float64 inputs. 0 where j or k is i or a
        duplicate of it.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape or range.
    Gradient:
        To x, in its type; a pair at distance 0 has subgradient 0. Second derivatives go through
        the reference. Bitwise repeatable on any number of threads.
    Source: Park et al., 2019, "Relational Knowledge Distillation", equation 8.
    """
    _checks.number("triplet_angle", "eps", eps, low=0)
    return _map(x, (eps,))
