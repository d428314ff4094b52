"""ONE: branches of one net, and the ensemble that they are taught by."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ... import _checks
from ...nn import EnsembleGate, GatedEnsembleLoss
from ...peers import Branched, Group, branch
from ...peers.fresh import MakeNet
from ...taps import Outputs
from ..method import like
from .online import Online, point, summands


class ONE(Online):
    """Labels of every branch and of their gated ensemble + weight T^2 KL(ensemble || branch).

    The branches are copies of a net from the layer `at` on; the gate, trained with them, weighs
    them row by row by what they share. Any branch is deployed, the first by name; `ensemble` is all
    of them under the gate.

    Args:
        at: the layer in front of which the net is branched; the paper's is the last stage.
        branches: K.
        temperature: T, the authors' 3.
        detach_target: as of `kdops.nn.GatedEnsembleLoss`.
        ramp: as of `Online`; 80 epochs in the authors' code.
        options: of `Online`.
    Source: Lan, Zhu, Gong, 2018, "Knowledge Distillation by On-the-Fly Native Ensemble", section 3.
    """

    def __init__(
        self,
        at: str = "branch",
        *,
        branches: int = 3,
        temperature: float = 3.0,
        detach_target: bool = True,
        ramp: int | Callable[[int], float] | None = 80,
        **options: Any,
    ):
        super().__init__(temperature=temperature, ramp=ramp, **options)
        self.at, self.layers = at, (at,)
        self.branches = _checks.integer("ONE", "branches", branches, 1)
        self.gates = nn.ModuleList()
        self.loss = GatedEnsembleLoss(
            temperature=self.temperature, ce_weight=self.ce_weight, detach_target=detach_target
        )

    def assemble(self, make_net: MakeNet, layers: Mapping[str, str]) -> Branched:
        return branch(make_net(0), point(layers, self.at), self.branches)

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        shared = self.feature(student, "branch")
        self.gates = nn.ModuleList([like(EnsembleGate(shared.shape[1], self.branches), shared)])

    def gate(self, peers: Outputs) -> Tensor:
        """(N, K) weights of the branches."""
        self.check_prepared(self.gates, 1)
        return self.gates[0](self.feature(peers, "branch"))

    def terms(self, peers: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        self.loss.kd_weight = self.soft_weight()
        loss, terms = self.loss(peers.logits, self.gate(peers), target, return_terms=True)
        ensemble = self.ce_weight * terms["ensemble_ce"].sum()
        return summands(loss, ensemble=ensemble, peers=terms["kl"].sum())

    def ensemble(self, group: Group) -> nn.Module:
        return GatedEnsemble(self, group)


class GatedEnsemble(nn.Module):
    """sum_k gate_k z_k, from images."""

    def __init__(self, method: ONE, group: Group):
        super().__init__()
        self.method, self.group = method, group

    def forward(self, images: Tensor) -> Tensor:
        peers = self.group(images)
        return (self.method.gate(peers).T[..., None] * torch.stack(peers.logits)).sum(0)
