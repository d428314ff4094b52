"""Losses of K peers as cases: their stacked logits are the student, and there is no teacher."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

import kdops


@dataclass(frozen=True)
class PeerCase:
    name: str
    options: dict = field(default_factory=dict)
    kind: str = "peers"
    labels: bool = False

    @property
    def stem(self) -> str:
        return self.name

    def function(self, logits: Tensor, _: None = None, **options) -> Tensor:
        """The sum of the peers' losses, which eager gives as one number."""
        return getattr(kdops, self.name)(logits, **options).sum()

    def make_inputs(self, shape, dtype, generator, _):
        logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
        return logits.to(dtype), None, self.options


MUTUAL, MIXTURE = PeerCase("mutual_kl"), PeerCase("mixture_kl")
