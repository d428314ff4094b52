"""The identity whose gradient is multiplied by a number."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from .. import _checks


class _Rescale(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, factor: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.factor = inputs[1]

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream * ctx.factor, None


class _RescaleForward(_Rescale):
    """With a tangent too, which torch.compile cannot trace."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: object) -> Tensor:
        return tangent * ctx.factor


def grad_rescale(x: Tensor, factor: float) -> Tensor:
    """x itself, whose gradient is factor times the upstream one.

    The tangent of forward-mode AD is multiplied too, and so is every further derivative.

    Args:
        x: any float tensor.
        factor: finite; 0 stops the gradient, a negative number reverses it.
    Returns:
        A view of x; writing into it in place is an error of PyTorch's.
    Raises:
        TypeError: where x is no float tensor, or factor no number. ValueError: for a factor that
        is not finite.
    Gradient: factor times upstream, in x's type.
    Source: Song, Chai, 2018, "Collaborative Learning for Deep Neural Networks", where
        a fork's factor is one over the number of its children.
    """
    _checks.tensor("grad_rescale", "x", x)
    factor = float(_checks.number("grad_rescale", "factor", factor))
    function = _Rescale if torch.compiler.is_compiling() else _RescaleForward
    return function.apply(x, factor)


class GradRescale(nn.Module):
    """`grad_rescale` by one over the number of a fork's children.

    What is in front of the fork then gets the mean of the children's gradients and not their sum,
    while each child keeps its own.

    Args:
        num_children: >= 1.
    """

    def __init__(self, num_children: int):
        super().__init__()
        self.num_children = _checks.integer("GradRescale", "num_children", num_children, low=1)

    def forward(self, x: Tensor) -> Tensor:
        return grad_rescale(x, 1 / self.num_children)

    def extra_repr(self) -> str:
        return f"num_children={self.num_children}"
