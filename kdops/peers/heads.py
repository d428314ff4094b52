"""A net with auxiliary heads, each a rest of the net, and several such nets as peers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..taps import Outputs
from .fresh import MakeNet, Pieces
from .group import Group
from .segments import join
from .tree import as_tuple, copied

Builder = Callable[[nn.Module, str], nn.Module]


class MultiHeadNet(nn.Module):
    """A net in pieces, and a head behind each piece but the last: a tuple of their logits.

    The heads come in the order of the pieces; the last logits are the net's own. `net` is the net
    without the other heads, sharing its weights.

    Args:
        pieces: as `segments` gives them: called with the values of the one before.
        heads: len(pieces) - 1 modules from the same values to logits.
    Raises:
        ValueError: for another number of heads.
    """

    def __init__(self, pieces: Sequence[nn.Module], heads: Sequence[nn.Module]):
        super().__init__()
        if len(heads) != len(pieces) - 1:
            raise ValueError(
                "MultiHeadNet: heads must be one for each of pieces but the last, got "
                f"{len(heads)} heads and {len(pieces)} pieces"
            )
        self.pieces, self.heads = nn.ModuleList(pieces), nn.ModuleList(heads)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        *pieces, last = self.pieces
        values, logits = (images,), []
        for piece, head in zip(pieces, self.heads, strict=True):
            values = as_tuple(piece(*values))
            logits.append(head(*copied(values)))
        return (*logits, last(*values))

    @property
    def net(self) -> nn.Module:
        return join(list(self.pieces))


def attach_aux_heads(
    net: nn.Module,
    points: Sequence[str],
    builder: Builder | None = None,
    *,
    make_net: MakeNet | None = None,
) -> MultiHeadNet:
    """A net and, in front of each of its submodules `points`, an auxiliary head.

    A head is the rest of the net from its point on, a copy that its layers' `reset_parameters`
    initialise anew, or the rest of another net. The net keeps its weights, and shares none.

    Args:
        net: one that `segments` can cut.
        points: names of submodules, in the order in which they run.
        builder: makes a head of (tail, point), where tail is that rest with the net's names, which
            it may change: to shorten or to widen it.
        make_net: make_net(i) is a net like this one whose rest is head i, counted from 1:
            initialised as its constructor does.
    Returns:
        A module of len(points) + 1 logits.
    Raises:
        ValueError: as of `segments`; for a module that cannot be initialised anew. TypeError: for
        a builder that gives no module.
    Source: Yao, Sun, 2020, "Knowledge Transfer via Dense Cross-Layer Mutual-Distillation".

    >>> def shorter(tail, point):
    ...     tail.layer3 = tail.layer3[:2]
    ...     return tail
    >>> early, middle, last = attach_aux_heads(net, ["layer2", "layer3"], shorter)(images)
    """
    points = [points] if isinstance(points, str) else list(points)
    pieces, heads = Pieces("attach_aux_heads", net, points, make_net), []
    count = len(points) + 1
    for i, point in enumerate(points, 1):
        head = join([pieces(i, k) for k in range(i, count)])
        head = head if builder is None else builder(head, point)
        if not isinstance(head, nn.Module):
            raise TypeError(
                f"attach_aux_heads: builder must give a module, got {type(head).__name__} for "
                f"point {point!r}"
            )
        heads.append(head)
    return MultiHeadNet([pieces(0, k) for k in range(count)], heads)


class MultiHeadGroup(Group):
    """Peers with several heads each: of K nets with H heads, K H logits, net after net.

    The peers, which `count`, `peer`, `deployed` and `active` number, are the K nets; their
    auxiliary heads are for training alone. `groups` has for each of the logits the number of its
    net, [0, 0, 0, 1, 1, 1] for two nets of three; the last logits of a net are those of `peer`.

    Args:
        nets: as `attach_aux_heads` makes them; they need not be alike.
        own_images: whether every peer sees its own view of the rows.
        deployed: the number of the net that is named for deployment.
    Raises:
        TypeError: for another kind of net.
    """

    nets: Any  # an nn.ModuleList of them

    def __init__(
        self, nets: Sequence[MultiHeadNet], *, own_images: bool = False, deployed: int = 0
    ):
        super().__init__(len(nets), deployed)
        for net in nets:
            if not isinstance(net, MultiHeadNet):
                raise TypeError(
                    f"MultiHeadGroup: nets must be MultiHeadNets, got {type(net).__name__}"
                )
        self.own_images = own_images
        self.nets = nn.ModuleList(nets)

    @property
    def groups(self) -> list[int]:
        return [i for i, net in enumerate(self.nets) for _ in net.pieces]

    def forward(self, images: Tensor) -> Outputs:
        logits: list[Tensor] = []
        for i, (net, view) in enumerate(zip(self.nets, self.views(images), strict=True)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.active in (None, i)):
                logits += net(view)
        return Outputs(tuple(logits), {})

    def peer(self, i: int) -> nn.Module:
        """Net i without its auxiliary heads; its `state_dict` is one of the net that it was."""
        return self.nets[self.number(i)].net
