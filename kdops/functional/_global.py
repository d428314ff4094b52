"""The loss of a batch that is spread over ranks, composed of PyTorch's operations."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..distributed import Gather, global_loss
from ._dispatch import Scalars, Tensors, in_full_precision


def over_ranks(
    function: str, formula: Callable[..., Any], tensors: Tensors, scalars: Scalars, gather: Gather
) -> Tensor:
    """formula(tensors, scalars, share) of checked tensors, `gather` naming more than one rank."""

    def of_all_ranks(tensors: Tensors, scalars: Scalars) -> Tensor:
        return global_loss(function, formula, tensors, scalars, gather)

    return in_full_precision(of_all_ranks, tensors, scalars)
