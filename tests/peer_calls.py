"""What the losses of peers are tested on: functions, options, and their inputs."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

import kdops

from .cases import generator

DISAGREE = [[0.0, 0.5, 0.0], [2.0, 0.0, 0.25], [0.0, 0.0, 0.0]]


@dataclass(frozen=True)
class PeerCase:
    name: str
    stem: str
    options: dict = field(default_factory=dict)
    labels: bool = True
    weights: str | None = None  # of mixtures: 'one' for all rows, 'rows' with their own
    targets: int = 3  # A: 1, or one for each peer

    @property
    def function(self):
        return getattr(kdops, self.stem)

    def inputs(self, dtype=torch.float64, rows=(4,), classes=5, peers=3, seed=0):
        """Logits of the peers, mixture weights or None, and the other options."""
        g = generator(seed)

        def randn(*shape) -> Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64)

        logits = [(2 * randn(*rows, classes)).to(dtype) for _ in range(peers)]
        options = dict(self.options)
        if self.labels:
            target = torch.randint(classes, rows, generator=g)
            target.view(-1)[6::7] = -100
            options["target"] = target
        accumulated = torch.float64 if dtype == torch.float64 else torch.float32
        lead = rows if self.weights == "rows" else ()
        weights = randn(*lead, self.targets, peers).softmax(-1).to(accumulated)
        return logits, weights if self.weights else None, options

    def call(self, logits, mixture, **options):
        if mixture is not None:
            options["weights"] = mixture
        return self.function(logits, **options)


def _mutual(name, labels=True, **options) -> PeerCase:
    return PeerCase(f"mutual_kl-{name}", "mutual_kl", options, labels)


def _mixture(name, labels=True, weights=None, targets=3, **options) -> PeerCase:
    return PeerCase(f"mixture_kl-{name}", "mixture_kl", options, labels, weights, targets)


CASES = [
    _mutual("all", labels=False),
    _mutual("labels", ce_weight=0.7, temperature=3.0),
    _mutual("matrix", weights=DISAGREE, ce_weight=[1.0, 0.0, 0.5], temperature=2.0),
    _mutual("peer_grad", ce_weight=0.5, temperature=2.0, peer_grad=True),
    _mixture("others", labels=False, temperature=2.0),
    _mixture("gate", weights="rows", targets=1, ce_weight=1.0, ensemble_ce_weight=1.0),
    _mixture("gate_all", weights="rows", targets=1, ensemble_ce_weight=0.5, target_grad="all"),
    _mixture("attention", weights="rows", ce_weight=1.0, temperature=3.0, target_grad="all"),
    _mixture("attention_weights", weights="rows", ce_weight=[1, 0, 1], target_grad="weights"),
    _mixture("one", weights="one", targets=1, ce_weight=0.3, ensemble_ce_weight=0.2),
    _mixture("one_all", weights="one", ensemble_ce_weight=0.2, target_grad="all", kd_weight=0.5),
    _mixture("min_logit", rule="min_logit", ce_weight=1.0, temperature=2.0),
    _mixture("min_logit_all", rule="min_logit", temperature=2.0, target_grad="all"),
    _mixture("naive", rule="naive", ce_weight=0.5, temperature=2.0, ensemble_ce_weight=0.1),
    _mixture("naive_all", rule="naive", temperature=2.0, target_grad="all", scale_t2=False),
]
BY_NAME = {case.name: case for case in CASES}
STEMS = ("mutual_kl", "mixture_kl")
