"""Online methods for the tests of training: named in recipes as tests.peer_methods:NAME."""

import torch

from kdops import functional as F
from kdops.methods.online import Online
from kdops.peers import NetGroup
from kdops.training.batches import Batches, UniformBatchSampler
from kdops.training.data import Part

from .test_training_loop import Plain


class Mutual(Online):
    """Peers that learn from each other, in as many ways as a group may be trained."""

    separable = True

    def __init__(self, *, peers: int = 2, alternate: bool = False, own: str = "", **options):
        super().__init__(**options)
        self.peers, self.own, self.turns = peers, own, peers if alternate else 1
        self.register_buffer("calls", torch.zeros(()))

    def assemble(self, make_net, layers):
        nets = [make_net(i) for i in range(self.peers)]
        group = NetGroup(nets, layers, own_images=self.own == "images")
        group.own_rows = self.own == "rows"
        return group

    def set_step(self, step, group):
        assert step == self.calls, "one call a batch"
        self.calls += 1

    def terms(self, peers, teacher, target):
        if self.own == "rows":
            pairs = zip(peers.logits, target, strict=True)
            values = [torch.nn.functional.cross_entropy(*pair) for pair in pairs]
        else:
            values = F.mutual_kl(peers.logits, target, ce_weight=self.ce_weight)
        return {"mutual": sum(values) if self.turn is None else values[self.turn]}


class Branches(Mutual):
    separable = False


class Alone(Mutual):
    """Labels for every peer."""

    def terms(self, peers, teacher, target):
        return {"labels": sum(torch.nn.functional.cross_entropy(x, target) for x in peers.logits)}


class Deep(Mutual):
    layers = ("branch",)


def part(rows=20, classes=4):
    g = torch.Generator().manual_seed(0)
    return Part(torch.rand(rows, 1, 8, 8, generator=g), torch.arange(rows) % classes)


def batches(rows=20, size=8, **options):
    return Batches(part(rows), UniformBatchSampler(rows, size, 0), **options)


def group(method, classes=4):
    def make(i):
        torch.manual_seed(i)
        return Plain(classes)

    return method.assemble(make, {})
