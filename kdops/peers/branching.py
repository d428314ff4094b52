"""Peers that share a stem: a tree of one fork."""

from collections.abc import Mapping, Sequence

from torch import nn

from .. import _checks
from .fresh import MakeNet, Pieces
from .tree import HeadTree, check_behind


class Branched(HeadTree):
    """K tails on one stem; the stem and a tail are a peer.

    The stem runs once, and gets the sum of the tails' gradients. Its features are 'branch', what
    the tails are given, and those of `layers`, tuples of K.

    Args:
        stem: from images to a feature, or to a tuple of values, the first of which is the feature.
        tails: from these values (one argument each) to logits; they need not be alike.
        layers: names of features and the tails' own layers for them, as `Tapped` takes them.
        deployed: the number of the tail that is named for deployment.

    >>> group = Branched(stem, [tail(), tail(), tail()], {"embedding": "fc:input"})
    >>> logits, features = group(images)
    """

    def __init__(
        self,
        stem: nn.Module,
        tails: Sequence[nn.Module],
        layers: Mapping[str, str] | None = None,
        *,
        deployed: int = 0,
    ):
        super().__init__([[stem], tails], rescale=False, layers=layers, deployed=deployed)

    @property
    def stem(self) -> nn.Module:
        return self.levels[0][0]

    @property
    def tails(self) -> list[nn.Module]:
        return [tail.model for tail in self.levels[1]]


def branch(
    model: nn.Module,
    at: str,
    n: int,
    layers: Mapping[str, str] | None = None,
    *,
    make_net: MakeNet | None = None,
    deployed: int = 0,
) -> Branched:
    """A model of which the part from `at` on is there n times.

    The first tail is the model's own, with its weights; the others are copies that are initialised
    anew by their layers' `reset_parameters`, or the tails of other nets.

    Args:
        model: one that `segments` can cut.
        at: the name of a submodule; its input is the feature that the tails share.
        n: number of tails, >= 1.
        layers: names of features and the layers of the model for them, behind the cut, as `Tapped`
            takes them: {"embedding": "fc:input"}.
        make_net: make_net(i) is a net like the model whose tail is tail i: initialised as its
            constructor does.
        deployed: the number of the tail that is named for deployment.
    Returns:
        A group of n peers; a peer's `state_dict` is one of the model.
    Raises:
        ValueError: as of `segments`; for a module that cannot be initialised anew.

    >>> group = branch(resnet, "layer4", 3)
    >>> logits, features = group(images)  # three tensors (N, C), and {"branch": layer4's input}
    """
    _checks.integer("branch", "n", n, low=1)
    pieces = Pieces("branch", model, [at], make_net)
    tails = [pieces(i, 1) for i in range(n)]
    check_behind("branch", model, tails[0], at, layers or {})
    return Branched(pieces(0, 0), tails, layers, deployed=deployed)
