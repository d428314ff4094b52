"""Pieces of a model, and the same pieces with weights of their own."""

import copy
from collections.abc import Callable, Sequence

from torch import nn

from .segments import segments

MakeNet = Callable[[int], nn.Module]


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
                f"{name or 'the net itself'} with {', '.join(own)}; give it that method, or "
                "make_net, or hand over parts with weights of your own"
            )
    return part


class Pieces:
    """The pieces of nets of one kind: of net 0, a model; of net i, `make_net(i)`.

    Without make_net the pieces of the others are fresh copies of the model's.

    Raises:
        ValueError: as of `segments` and `fresh_copy`; where make_net gives weights out twice.
    """

    def __init__(
        self, function: str, model: nn.Module, points: Sequence[str], make_net: MakeNet | None
    ):
        self.function, self.points, self.make_net = function, points, make_net
        self.nets = {0: segments(model, points)}
        self.weights = set(model.parameters())

    def __call__(self, net: int, piece: int) -> nn.Module:
        if net not in self.nets:
            if self.make_net is None:
                return fresh_copy(self.function, self.nets[0][piece])
            self.nets[net] = segments(self._own(net, self.make_net(net)), self.points)
        return self.nets[net][piece]

    def _own(self, net: int, made: nn.Module) -> nn.Module:
        weights = set(made.parameters())
        if self.weights & weights:
            raise ValueError(
                f"{self.function}: make_net must give weights of its own to every net, got some of "
                f"another for net {net}"
            )
        self.weights |= weights
        return made
