"""The losses of K peers as cases: their stacked logits are the student, and there is no teacher."""

from dataclasses import dataclass

import torch

import kdops

from .cases import Case, Tolerance


@dataclass(frozen=True)
class Peers(Case):
    def make_inputs(self, shape, dtype, generator, distribution="randn"):
        """Of (K, rows, classes), or of (rows, classes) for three; labels ignore every seventh."""
        shape = shape if len(shape) == 3 else (3, *shape)
        common = 2 * torch.randn(shape[1:], generator=generator, dtype=torch.float64)
        own = torch.randn(shape, generator=generator, dtype=torch.float64)
        target = torch.randint(shape[2], shape[1:2], generator=generator)
        target[6::7] = -100
        return (common + own).to(dtype), None, {"target": target}


def mutual_kl(logits, teacher=None, *, target):
    return kdops.mutual_kl(logits, target, ce_weight=1.0).sum()


def mixture_kl(logits, teacher=None, *, target):
    return kdops.mixture_kl(logits, target, ce_weight=1.0, target_grad="all")


def _case(function) -> Peers:
    def reference(logits, *, target):
        with kdops.backend("reference"):
            return function(logits, target=target)

    bounds = Tolerance(5e-6, 5e-6, 1e-5, 5e-5)
    return Peers(function.__name__, function, reference, "peers", bounds, labels=True)


CASES = [_case(mutual_kl), _case(mixture_kl)]
