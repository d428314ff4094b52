"""Peers that share what is in front of forks: a tree of parts, the leaves its heads."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from ..nn.grad_rescale import grad_rescale
from ..taps import Outputs, Tapped, find_layer
from .fresh import MakeNet, Pieces
from .group import Group
from .segments import join


def as_tuple(values: Any) -> tuple[Any, ...]:
    return values if isinstance(values, tuple) else (values,)


def copied(values: tuple[Any, ...]) -> list[Any]:
    """What one of several parts is given: it may write in place, and the others see nothing."""
    return [value.clone() if isinstance(value, Tensor) else value for value in values]


def _rescaled(value: Any, factor: float) -> Any:
    gradient = isinstance(value, Tensor) and value.is_floating_point()
    return grad_rescale(value, factor) if gradient else value


def check_behind(
    function: str, model: nn.Module, tail: nn.Module, at: str, layers: Mapping[str, str]
) -> None:
    """Features of every head are those of layers behind the last cut."""
    there = dict(tail.named_modules())
    for layer in (name.removesuffix(":input") for name in layers.values()):
        if find_layer(model, layer) is not model and layer not in there:
            raise ValueError(
                f"{function}: layers must be behind the cut, in front of {at!r}, got {layer!r}"
            )


class HeadTree(Group):
    """K heads on a tree of shared parts; a leaf and the parts above it are a peer.

    A batch runs once through every part. Where `rescale`, what is in front of a fork gets the mean
    of its children's gradients and not their sum, so a stem under two binary forks gets a quarter
    of the sum over the four leaves, while a head's own gradient is as of a net alone. Its features
    are 'branch', the input of the first fork, and those of `layers`, tuples of K.

    Under an optimizer that does not heed the gradient's scale, as Adam, `rescale` does next to
    nothing; it is made for SGD with momentum.

    Args:
        levels: the parts of each level, from the stem alone to the K leaves; the number of a
            level's parts is a multiple of that above, and part j hangs on part j // (multiple). A
            part is called with the values that the one above gives (a tensor, or a tuple of them,
            the first of which is the feature).
        rescale: whether forks take the mean of the gradients.
        layers: names of features and the leaves' own layers for them, as `Tapped` takes them.
        deployed: the number of the leaf that is named for deployment.
    Raises:
        ValueError: for numbers of parts that make no tree.
    Source: Song, Chai, 2018, "Collaborative Learning for Deep Neural Networks".
    """

    levels: Any  # nn.ModuleLists in an nn.ModuleList

    def __init__(
        self,
        levels: Sequence[Sequence[nn.Module]],
        *,
        rescale: bool = True,
        layers: Mapping[str, str] | None = None,
        deployed: int = 0,
    ):
        counts = [len(level) for level in levels]
        tree = len(counts) > 1 and counts[0] == 1 and 0 not in counts
        if not tree or any(b % a for a, b in pairwise(counts)):
            raise ValueError(
                f"{type(self).__name__}: levels must be one stem and then multiples of the number "
                f"of parts above, got {counts}"
            )
        if "branch" in (layers or {}):
            raise ValueError(
                f"{type(self).__name__}: layers must leave the name 'branch' to the stem's feature"
            )
        super().__init__(counts[-1], deployed)
        leaves = [Tapped(leaf, layers or {}) for leaf in levels[-1]]
        self.levels = nn.ModuleList(map(nn.ModuleList, (*levels[:-1], leaves)))
        self.rescale = rescale

    @classmethod
    def of(
        cls,
        model: nn.Module,
        at: Sequence[str],
        fanout: Sequence[int],
        *,
        rescale: bool = True,
        layers: Mapping[str, str] | None = None,
        make_net: MakeNet | None = None,
        deployed: int = 0,
    ) -> "HeadTree":
        """A model forked in front of its submodules `at`, into `fanout` children at each.

        Leaf 0 is the model itself, with its weights; all other parts are copies that are
        initialised anew by their layers' `reset_parameters`, or parts of other nets.

        Args:
            model: one that `segments` can cut.
            at: names of submodules, in the order in which they run.
            fanout: children of a fork, >= 1 each, as many numbers as names.
            rescale, layers, deployed: as above.
            make_net: make_net(i) is a net like the model, initialised as its constructor does; the
                parts whose first leaf is i are its.
        Returns:
            A tree of prod(fanout) heads.
        Raises:
            ValueError: as of `segments`; for a module that cannot be initialised anew.
        """
        at = [at] if isinstance(at, str) else list(at)
        fanout = [fanout] if isinstance(fanout, int) else list(fanout)
        if not at or len(at) != len(fanout):
            raise ValueError(
                f"{cls.__name__}: fanout must have a number for each of at, >= 1 of them, got "
                f"{fanout} for {at}"
            )
        for i, children in enumerate(fanout):
            _checks.integer(cls.__name__, f"fanout[{i}]", children, low=1)
        pieces, leaves = Pieces(cls.__name__, model, at, make_net), math.prod(fanout)
        counts = list(accumulate([1, *fanout], mul))
        levels = [
            [pieces(first, depth) for first in range(0, leaves, leaves // count)]
            for depth, count in enumerate(counts)
        ]
        check_behind(cls.__name__, model, levels[-1][0], at[-1], layers or {})
        return cls(levels, rescale=rescale, layers=layers, deployed=deployed)

    def forward(self, images: Tensor) -> Outputs:
        grads = torch.is_grad_enabled()
        values: list[Any] = [as_tuple(self.levels[0][0](images))]
        features = {"branch": values[0][0]}
        for level in self.levels[1:]:
            children = len(level) // len(values)
            if self.rescale and children > 1:
                values = [tuple(_rescaled(v, 1 / children) for v in value) for value in values]
            outputs = []
            for j, part in enumerate(level):
                with torch.set_grad_enabled(
                    grads and self.active in (None, *self._leaves(j, level))
                ):
                    given = values[j // children]
                    outputs.append(part(*(copied(given) if children > 1 else given)))
            values = list(map(as_tuple, outputs)) if level is not self.levels[-1] else outputs
        for name in values[0].features:
            features[name] = tuple(output.features[name] for output in values)
        return Outputs(tuple(output.logits for output in values), features)

    def _leaves(self, j: int, level: nn.ModuleList) -> range:
        """The leaves under part j of a level."""
        each = self.count // len(level)
        return range(j * each, (j + 1) * each)

    def peer(self, i: int) -> nn.Module:
        """The path to leaf i; of a model's own parts its `state_dict` is one of the model."""
        leaf = self.number(i)
        path = [level[leaf * len(level) // self.count] for level in self.levels]
        return join([*path[:-1], path[-1].model])
