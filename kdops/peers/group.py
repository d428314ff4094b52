"""K peers as one module: what a training loop runs, and the single nets that come out of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from ..taps import Outputs, Tapped


class Group(nn.Module):
    """K peers on one batch: `Outputs` whose logits are a tuple of K tensors (N, C).

    `peer(i)` is a peer as it is deployed, sharing its weights with the group; `deployed` is the
    number of the one that is named for it in advance. Where `own_images`, the input is (K, N, ...),
    a view of the rows for each peer; where `own_rows`, other rows for each. While `active` is i,
    peer i alone gets a gradient: the others are targets.
    """

    own_images = False
    own_rows = False

    def __init__(self, count: int, deployed: int = 0):
        super().__init__()
        name = type(self).__name__
        self.count = _checks.integer(name, "the number of peers", count, low=1)
        self.deployed = _checks.integer(name, "deployed", deployed, high=count - 1)
        self.active: int | None = None

    def forward(self, images: Tensor) -> Outputs:
        raise NotImplementedError

    def views(self, images: Tensor) -> Tensor | list[Tensor]:
        """What each peer is given.

        Raises:
            ValueError: for other than K views or shards, where every peer has its own.
        """
        if not (self.own_images or self.own_rows):
            return [images] * self.count
        if len(images) != self.count:
            why = "own_images" if self.own_images else "own_rows"
            raise ValueError(
                f"{type(self).__name__}: images must be ({self.count}, N, ...), for each peer its "
                f"own ({why}), got {len(images)} in front"
            )
        return images

    def peer(self, i: int) -> nn.Module:
        """Peer i alone, from images to logits."""
        raise NotImplementedError

    def number(self, i: int) -> int:
        """i, checked to be a peer's."""
        return _checks.integer(type(self).__name__, "peer", i, high=self.count - 1)

    def ensemble(self) -> nn.Module:
        """All peers as one classifier, from images to logits."""
        return Ensemble([self.peer(i) for i in range(self.count)])

    def record(self) -> dict[str, Any]:
        """What else than the peers' answers belongs into the record of their training."""
        return {}

    @property
    def model(self) -> nn.Module:
        """The peer that is deployed."""
        return self.peer(self.deployed)


class Ensemble(nn.Module):
    """log of the mean of the peers' probabilities, from images."""

    def __init__(self, peers: Sequence[nn.Module]):
        super().__init__()
        self.peers = nn.ModuleList(peers)

    def forward(self, images: Tensor) -> Tensor:
        logs = torch.stack([peer(images).log_softmax(-1) for peer in self.peers])
        return logs.logsumexp(0) - torch.tensor(float(len(logs))).log()


class NetGroup(Group):
    """Peers that are whole nets of their own.

    Args:
        nets: the peers; they need not be alike.
        layers: names of features and each net's own layers for them, as `Tapped` takes them; a
            feature is a tuple of the K peers' values.
        own_images: whether every peer sees its own view of the rows.
        deployed: the number of the peer that is named for deployment.
    """

    nets: Any  # an nn.ModuleList of `Tapped`

    def __init__(
        self,
        nets: Sequence[nn.Module],
        layers: Mapping[str, str] | None = None,
        *,
        own_images: bool = False,
        deployed: int = 0,
    ):
        super().__init__(len(nets), deployed)
        self.own_images = own_images
        self.nets = nn.ModuleList(Tapped(net, layers or {}) for net in nets)

    def forward(self, images: Tensor) -> Outputs:
        outputs = []
        for i, (net, view) in enumerate(zip(self.nets, self.views(images), strict=True)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.active in (None, i)):
                outputs.append(net(view))
        names = outputs[0].features
        features = {name: tuple(output.features[name] for output in outputs) for name in names}
        return Outputs(tuple(output.logits for output in outputs), features)

    def peer(self, i: int) -> nn.Module:
        return self.nets[self.number(i)].model
