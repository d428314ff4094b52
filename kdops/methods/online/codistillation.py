"""Codistillation: nets that learn from copies of each other that are some steps old."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ... import _checks
from ...nn import CodistillationLoss
from ...peers import CodistilledGroup
from ...peers.exchange import Exchange, MemoryExchange, PeerBank
from ...peers.fresh import MakeNet
from ...taps import Outputs
from .online import Online, summands

SHARDS = ("disjoint", "same")


class Codistillation(Online):
    """Labels + weight * psi of stale copies of the other nets, for each of `count` nets.

    Every net learns for itself. Every `exchange_every` steps it publishes its weights and takes
    those that the others published; their copies, in evaluation mode, answer for its own batch. So
    nets may learn in one process, or each in its own: with `exchange` set before `assemble`, the
    group is the one net `exchange.peer`, and the others come from there.

    Args:
        count: of nets.
        kind: of psi, see `kdops.nn.CodistillationLoss`: 'kl', 'ce' or 'mse_logits'.
        burn_in: from labels alone: steps, or a share below 1 of `total_steps`.
        exchange_every: steps.
        weight_ramp_steps: over which the weight grows after the burn-in.
        shards: 'disjoint', each net has rows of its own, or the 'same' rows.
        max_staleness: in steps; a peer further behind is not asked. None: any.
        temperature: T; the paper's 1.
        options: of `Online`.
    Source: Anil, Pereyra, Passos, Ormandi, Dahl, Hinton, 2018, "Large scale distributed neural
        network training through online distillation", section 2, algorithm 1.
    """

    exchange: Exchange | None = None

    def __init__(
        self,
        *,
        count: int = 2,
        kind: str = "kl",
        burn_in: int | float = 0.25,
        exchange_every: int = 50,
        weight_ramp_steps: int = 0,
        shards: str = "disjoint",
        max_staleness: int | None = None,
        temperature: float = 1.0,
        **options: Any,
    ):
        super().__init__(temperature=temperature, **options)
        name = "Codistillation"
        self.count = _checks.integer(name, "count", count, 1)
        self.exchange_every = _checks.integer(name, "exchange_every", exchange_every, 1)
        if isinstance(burn_in, float) and burn_in < 1:
            self.number("burn_in", burn_in)
        else:
            _checks.integer(name, "burn_in", burn_in)  # type: ignore[arg-type]  # 1.0 is refused
        _checks.one_of(name, "shards", shards, SHARDS)
        if max_staleness is not None:
            _checks.integer(name, "max_staleness", max_staleness)
        self.burn_in, self.own_rows, self.max_staleness = (
            burn_in,
            shards == "disjoint",
            max_staleness,
        )
        self.step: int | None = None
        self._begun = False
        self.loss = CodistillationLoss(
            temperature=self.temperature,
            kind=kind,
            ce_weight=self.ce_weight,
            weight_ramp_steps=weight_ramp_steps,
        )

    def assemble(self, make_net: MakeNet, layers: Mapping[str, str]) -> CodistilledGroup:
        """All nets, or with `exchange` the one that is trained here.

        Raises:
            ValueError: for an exchange between another number of peers.
        """
        exchange = self.exchange or MemoryExchange(self.count)
        if exchange.peers != self.count:
            raise ValueError(
                f"Codistillation: exchange must be between count={self.count} peers, "
                f"got {exchange.peers}"
            )
        numbers = range(self.count) if self.exchange is None else (exchange.peer,)
        nets = dict(zip(numbers, self.made(make_net, numbers), strict=True))
        bank = PeerBank(
            make_net,
            exchange,
            max_staleness=self.max_staleness,
            own={number: net.state_dict() for number, net in nets.items()},
        )
        return CodistilledGroup(list(nets.values()), numbers, bank, layers, own_rows=self.own_rows)

    def burn_in_steps(self) -> int:
        """
        Raises:
            RuntimeError: for a share where `total_steps` is not set.
        """
        if isinstance(self.burn_in, int):
            return self.burn_in
        if self.total_steps is None:
            raise RuntimeError("Codistillation: burn_in is a share: set total_steps first")
        return round(self.burn_in * self.total_steps)

    def set_step(self, step: int, group: Any) -> None:
        """Exchange, where it is time; a process that was started again takes what is there."""
        start = self.loss.burn_in_steps = self.burn_in_steps()
        due = step > 0 and (step % self.exchange_every == 0 or step == start)
        if due:
            group.publish(step)
        if due or not self._begun:
            group.bank.refresh(step)
        group.bank.step = self.step = step
        group.listening, self._begun = step >= start, True

    def terms(self, peers: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        """
        Raises:
            RuntimeError: before `set_step`, without which nothing is exchanged.
        """
        if self.step is None:
            raise RuntimeError("Codistillation: call set_step(step, group) before every step")
        self.loss.kd_weight = self.soft_weight()
        stale = peers.features.get("stale") or ((),) * len(peers.logits)
        targets = target if self.own_rows else (target,) * len(peers.logits)
        losses, soft = [], []
        for own, others, labels in zip(peers.logits, stale, targets, strict=True):
            loss, terms = self.loss(own, others, labels, step=self.step, return_terms=True)
            losses.append(loss)
            soft.append(terms["peers"])
        return summands(torch.stack(losses).sum(), peers=torch.stack(soft).sum())
