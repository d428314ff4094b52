"""Peers in training: how they are assembled, the turns of a batch, one peer a process."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from ..methods import Method
from ..methods.online import Online
from ..methods.online.online import MakeNet
from ..peers import Group, NetGroup
from ..taps import Outputs


def turns(method: Method, student: nn.Module) -> Iterator[None]:
    """The updates of a batch: one, or each peer's in its turn, on the others' new weights."""
    count = getattr(method, "turns", 1)
    if count == 1:
        yield
        return
    for turn in range(count):
        method.turn = student.active = turn
        yield
    method.turn = student.active = None


class OwnNets(DDPStrategy):
    """Processes that train a net each: no gradient is averaged."""

    def setup_module(self, module: nn.Module) -> nn.Module:
        return module


class PeerOfProcess(Group):
    """Peers of which this process trains one: the others' logits come from their processes.

    The weights of the others are as old as the last exchange.
    """

    def __init__(self, group: NetGroup, rank: int):
        super().__init__(group.count, group.deployed)
        self.nets, self.own_images = group.nets, group.own_images
        self.active = rank

    def forward(self, images: Tensor) -> Outputs:
        own = self.nets[self.active](self.views(images)[self.active]).logits
        logits = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(logits, own.detach().contiguous())
        logits[self.active] = own
        return Outputs(tuple(logits), {})

    def peer(self, i: int) -> nn.Module:
        return self.nets[self.number(i)].model

    @torch.no_grad()
    def exchange_weights(self) -> None:
        for i, net in enumerate(self.nets):
            for value in net.state_dict().values():
                dist.broadcast(value, src=i)

    def exchange(self, optimizer: torch.optim.Optimizer) -> None:
        """Give every process all weights, and of the optimizer's state what is each peer's."""
        self.exchange_weights()
        own, states = set(self.nets[self.active].parameters()), [None] * self.count
        learned = [x for group in optimizer.param_groups for x in group["params"]]
        whole = optimizer.state_dict()
        mine = {i: x for i, x in whole["state"].items() if learned[i] in own}
        dist.all_gather_object(states, mine)
        merged = {i: x for state in states for i, x in state.items()}
        optimizer.load_state_dict({**whole, "state": merged})


def assemble(fabric: Fabric, method: Online, make_net: MakeNet, layers: dict[str, str]) -> Group:
    """The peers of a method, as this process trains them.

    Raises:
        ValueError: for peers that cannot be trained one a process, where that was asked for.
    """
    group = method.assemble(make_net, layers)
    if not isinstance(fabric.strategy, OwnNets):
        return group
    name = type(method).__name__
    if not method.separable or group.own_rows:
        raise ValueError(f"one peer a process: {name}'s peers must be trained together")
    if group.count != fabric.world_size:
        raise ValueError(
            f"one peer a process: {name} has {group.count} peers, got {fabric.world_size} processes"
        )
    return PeerOfProcess(group, fabric.global_rank)
