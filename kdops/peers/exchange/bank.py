"""Stale copies of the peers: kept, refreshed now and then, asked on one's own batch."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ... import _checks
from .checkpoint import Checkpoint, not_finite, origin_of
from .exchange import Exchange


class PeerBank(nn.Module):
    """The peers as they last published themselves, in evaluation mode and without gradient.

    What an exchange brings that is cut, changed, of another net or not finite is refused with a
    warning, and the copy from before is kept. A peer that never published is not asked, nor one
    that is more than `max_staleness` steps behind.

    Args:
        make_net: net j with the architecture of peer j; its weights do not matter.
        exchange: where the weights come from and go to.
        max_staleness: in steps; None: any age.
        own: the weights that this process's peers begin with, which no other peer may share; a
            state dict a peer.

    `steps` are those of the copies, by peer; `learned`: how many batches each was asked on, and the
    sum and the largest of its ages there. A state dict has all of it.

    >>> bank = PeerBank(lambda j: make_net(), FolderExchange(folder, peer=0, peers=2))
    >>> bank.publish(net.state_dict(), step)
    >>> bank.refresh(step)
    >>> stale = bank.predict(images)
    """

    def __init__(
        self,
        make_net: Callable[[int], nn.Module],
        exchange: Exchange,
        *,
        max_staleness: int | None = None,
        own: Mapping[int, Mapping[str, Tensor]] | None = None,
    ):
        super().__init__()
        if max_staleness is not None:
            _checks.integer("PeerBank", "max_staleness", max_staleness)
        self.exchange, self.max_staleness, self.step = exchange, max_staleness, 0
        nets = {str(j): make_net(j).requires_grad_(False) for j in exchange.readable}
        self.nets = nn.ModuleDict(nets).eval()
        self.steps: dict[int, int] = {}
        self.learned = {j: (0, 0, 0) for j in exchange.readable}
        self._warned: set[tuple[str, object]] = set()
        self.origins = {peer: origin_of(state) for peer, state in (own or {}).items()}
        for peer, origin in self.origins.items():
            self._compare_origin(peer, origin)

    def train(self, mode: bool = True) -> "PeerBank":
        """Evaluation mode alone."""
        return super().train(False)

    def publish(self, state: Mapping[str, Tensor], step: int, peer: int | None = None) -> bool:
        """Hand out weights after `step` steps; False, with a warning, where that is not possible:
        they are not finite, or cannot be written."""
        _checks.integer("PeerBank", "step", step)
        number = self.exchange.peer if peer is None else peer
        if name := not_finite(state):
            return self._warn(f"peer {number} is not published: not finite in {name!r}")
        checkpoint = Checkpoint(step, self.origins.get(number, 0), state)
        try:
            self.exchange.publish(checkpoint, peer)
        except OSError as error:
            return self._warn(f"peer {number} is not published: {error}")
        return True

    def refresh(self, step: int) -> None:
        """Take what is newer than the copies here; `step` is this process's own."""
        self.step = _checks.integer("PeerBank", "step", step)
        for peer in self.exchange.readable:
            try:
                found = self.exchange.newest(peer)
                if found is not None and found.step > self.steps.get(peer, -1):
                    self._take(peer, found)
            except (ValueError, OSError) as error:
                self._warn(f"peer {peer} is not refreshed: {error}")

    def _take(self, peer: int, found: Checkpoint) -> None:
        net = self.nets[str(peer)]
        wanted = {name: (x.shape, x.dtype) for name, x in net.state_dict().items()}
        given = {name: (x.shape, x.dtype) for name, x in found.state.items()}
        odd = [name for name in wanted | given if wanted.get(name) != given.get(name)]
        if odd:
            raise ValueError(f"it is of another net, which differs in {', '.join(odd[:3])}")
        if name := not_finite(found.state):
            raise ValueError(f"its weights are not finite in {name!r}")
        net.load_state_dict(found.state)
        self.steps[peer] = found.step
        if peer not in self.origins:
            self._compare_origin(peer, found.origin)

    def get_extra_state(self) -> dict[str, Any]:
        return {"steps": dict(self.steps), "learned": dict(self.learned)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.steps, self.learned = dict(state["steps"]), dict(state["learned"])

    def ages(self) -> dict[int, int]:
        """Of each peer that has published: this process's step less the copy's."""
        return {j: self.step - step for j, step in sorted(self.steps.items())}

    def present(self) -> list[int]:
        """The peers that can be asked."""
        ages, limit = self.ages(), self.max_staleness
        for peer in [j for j in ages if limit is not None and ages[j] > limit]:
            age = ages.pop(peer)
            self._warn_once("stale", peer, f"peer {peer} is {age} steps behind and not asked")
        return list(ages)

    def predict(self, images: Tensor, own: int | None = None) -> list[Tensor]:
        """Logits (N, C) of each peer that can be asked, in the order of their numbers.

        Args:
            images: one's own batch.
            own: a peer to leave out.
        """
        return self.predict_for(images, (own,))[0]

    def record(self) -> dict[str, dict[str, float]]:
        """Of each peer: the batches that its copy answered for, and its mean and largest age."""
        return {
            str(peer): {"batches": count, "mean": total / max(1, count), "largest": largest}
            for peer, (count, total, largest) in self.learned.items()
        }

    @torch.no_grad()
    def predict_for(self, images: Tensor, numbers: Sequence[int | None]) -> list[list[Tensor]]:
        """What `predict` gives for several peers with the same batch, each copy asked once."""
        ages, answers = self.ages(), {}
        for peer in self.present():
            asking = [own for own in numbers if own != peer]
            if asking:
                output = self.nets[str(peer)](images)
                answers[peer] = getattr(output, "logits", output)
                count, total, largest = self.learned[peer]
                age = max(largest, ages[peer]) if count else ages[peer]
                self.learned[peer] = count + 1, total + ages[peer], age
        return [[x for peer, x in answers.items() if peer != own] for own in numbers]

    def _compare_origin(self, peer: int, origin: int) -> None:
        same = [j for j, known in self.origins.items() if j != peer and origin and known == origin]
        for other in same:
            text = f"peers {min(peer, other)} and {max(peer, other)} began with the same weights"
            key = min(peer, other), max(peer, other)
            self._warn_once("origin", key, f"{text}: give each its own seed")

    def _warn_once(self, what: str, key: object, text: str) -> None:
        if (what, key) not in self._warned:
            self._warned.add((what, key))
            self._warn(text)

    def _warn(self, text: str) -> bool:
        warnings.warn(f"PeerBank: {text}", stacklevel=3)
        return False
