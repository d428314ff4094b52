"""Copies of a part of a network with weights of their own."""

import copy

from torch import nn


def fresh_copy(function: str, part: nn.Module) -> nn.Module:
    """A copy whose every layer is initialised anew by its own `reset_parameters`.

    This is the layers' default, not what a model's constructor may do after it.

    Raises:
        ValueError: for a module with parameters of its own and no `reset_parameters`.
    """
    part = copy.deepcopy(part)
    for name, module in reversed(list(part.named_modules())):  # a module after those inside it
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if reset is not None:
            reset()
        elif own := [key for key, _ in module.named_parameters(recurse=False)]:
            raise ValueError(
                f"{function}: every module with parameters must have reset_parameters, got "
                f"{name or 'the net itself'} with {', '.join(own)}; give it that method, or hand "
                "over parts with weights of your own"
            )
    return part
