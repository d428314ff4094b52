"""What every online method is: how its peers are made, and the loss of their outputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ... import _checks
from ...peers import Group
from ...peers.fresh import MakeNet
from ...schedules import SigmoidRampup
from ...taps import Outputs
from ..method import Method


class Online(Method):
    """A way to train peers together, as a module to be called on a group's outputs and labels.

    `assemble` makes the group. `turns` is the number of updates a batch has: where it is more than
    one, `turn` is the peer whose turn it is, and `Group.active` with it. `set_step` is called
    before every step, of `total_steps`, for methods that exchange now and then; `fit_held_out` once
    an epoch, before its first step, where `held_out` says that the method learns from rows that the
    peers do not. `separable` methods may have each peer in a process of its own: the peers are
    whole nets, and to each the others' logits are constants.

    Args:
        temperature: T of the soft targets.
        weight: of the soft targets.
        ce_weight: of the labels, for every peer.
        ramp: from the epoch to a factor of the soft targets' weight, or the length of a
            `SigmoidRampup`; None: 1.
    """

    held_out = False
    turns = 1
    turn: int | None = None
    total_steps: int | None = None
    separable = False

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        weight: float = 1.0,
        ce_weight: float = 1.0,
        ramp: int | Callable[[int], float] | None = None,
    ):
        nn.Module.__init__(self)
        self.ce_weight = self.number("ce_weight", ce_weight)
        self.weight = self.number("weight", weight)
        self.temperature = _checks.temperature(type(self).__name__, temperature)
        if not (ramp is None or isinstance(ramp, int) or callable(ramp)):
            raise TypeError(
                f"{type(self).__name__}: ramp must be an int, a function of the epoch or None, "
                f"got {type(ramp).__name__}"
            )
        self.ramp = SigmoidRampup(ramp) if isinstance(ramp, int) else ramp
        self.epoch = 0

    def assemble(self, make_net: MakeNet, layers: Mapping[str, str]) -> Group:
        """The peers.

        Args:
            make_net: net i, with weights that depend on i.
            layers: the nets' own layers for the names in the method's `layers`.
        """
        raise NotImplementedError

    def made(self, make_net: MakeNet, numbers: Iterable[int]) -> list[nn.Module]:
        """The nets of these numbers.

        Raises:
            TypeError: for what is no module. ValueError: for one net for several peers.
        """
        nets, name = [make_net(i) for i in numbers], type(self).__name__
        for net in nets:
            if not isinstance(net, nn.Module):
                raise TypeError(f"{name}: make_net must give modules, got {type(net).__name__}")
        if len(set(nets)) < len(nets):
            raise ValueError(f"{name}: make_net must make a new net for each peer, got one twice")
        return nets

    def ensemble(self, group: Group) -> nn.Module:
        """All peers as one classifier, from images to logits."""
        return group.ensemble()

    def set_step(self, step: int, group: Group) -> None:
        """Tell methods that exchange weights the step, counted from 0."""

    def fit_held_out(self, logits: Sequence[Tensor], target: Tensor) -> None:
        """Learn from rows that the peers do not: the K peers' (N, C) logits and (N,) labels."""

    def soft_weight(self) -> float:
        """The weight of the soft targets in this epoch."""
        return self.weight * (1.0 if self.ramp is None else self.ramp(self.epoch))

    def terms(self, peers: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def forward(self, peers: Outputs, target: Tensor) -> Tensor:  # type: ignore[override]
        """The loss, a scalar."""
        return torch.stack(list(self.terms(peers, None, target).values())).sum()


def point(layers: Mapping[str, str], name: str) -> str:
    """The net's own layer in front of which it is cut."""
    return layers.get(name, name).removesuffix(":input")


def summands(loss: Tensor, **parts: Tensor) -> dict[str, Tensor]:
    """The loss by name, for the logs: `parts`, constants, and 'labels', the rest of its value and
    all of its gradient."""
    return {"labels": loss - sum(parts.values()), **parts}
