"""IRG as its authors' Caffe layers compute it.

BatchEuclideanMap takes the maximum as a constant and propagates through the row index alone, half
of the gradient; EuclideanLoss divides by 2 N, for the vector of the transformation by 2.
"""

import torch
from torch import Tensor

from .. import _checks
from ..reference.numbers import accumulation, over, power_of_two


def _edges(x: Tensor) -> Tensor:
    x = accumulation(x)
    x = x * power_of_two(x)
    squared = (x[:, None] - x.detach()[None]).square().sum(-1)
    return over(squared, squared.detach().amax()) if squared.numel() else squared


def irg_edge_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 / (2 N) sum_ij (A_ij - A'_ij)^2, A squared distances over their maximum.

    Args:
        student: (N, D) features; float32, float64, bfloat16 or float16.
        teacher: (N, D') features; it gets no gradient.
    Returns:
        A scalar. Where all rows are equal the map is 0, and not NaN as in Caffe.
    Gradient:
        To student, through the row index of A alone: not the derivative of the value.
    Source: https://github.com/yufanLIU/IRG, batch_euclidean_map_layer.cpp; its weight is 0.005.
    """
    _checks.relation("irg_edge_loss", (student,), teacher)
    value = (_edges(student) - _edges(teacher.detach())).square().sum()
    return value / (2 * max(1, len(student)))


def _change(first: Tensor, second: Tensor) -> Tensor:
    first, second = accumulation(first), accumulation(second)
    scale = power_of_two(torch.cat([first, second]))
    change = ((first - second) * scale).square().sum(1)
    return over(change, change.detach().amax()) if change.numel() else change


def irg_transform_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """1 / 2 sum_i (u_i - u'_i)^2, u_i = |a_i - b_i|^2 over its maximum.

    Args:
        student: a pair of (N, D) features, of two layers.
        teacher: a pair of (N, D') features; it gets no gradient.
    Returns:
        A scalar.
    Gradient:
        To student, the maximum taken as a constant.
    Source: https://github.com/yufanLIU/IRG, batch_euclidean_vector_layer.cpp; its weight is 0.005.
    """
    for name, layers in (("student", student), ("teacher", teacher)):
        _checks.pair("irg_transform_loss", name, layers)
        _checks.relation("irg_transform_loss", layers, student[0])
        _checks.same_width("irg_transform_loss", name, layers)
    first, second = (x.detach() for x in teacher)
    return (_change(*student) - _change(first, second)).square().sum() / 2
