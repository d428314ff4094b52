"""KDCL: nets that learn from one target made of all their logits."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ... import _checks
from ...nn import GeneralEnsembleWeights, KDCLLoss, linear_ensemble_weights
from ...nn.ensemble_weights import MOST_WEIGHTS
from ...peers import NetGroup
from ...peers.fresh import MakeNet
from ...taps import Outputs
from .online import Online, summands

FITS = ("batch", "held_out")


class KDCL(Online):
    """Labels + weight T^2 KL(softmax(z_t / T) || softmax(z_i / T)), for each of `count` nets.

    z_t is one target for all nets, made from their logits by a rule, see `kdops.nn.KDCLLoss`. The
    weights of 'general', and of 'linear' where `fit_on` says so, come from held-out rows by
    `fit_held_out`, once an epoch; before its first call they are 1 / count.

    Args:
        count: of nets; they need not be alike. At most 8 for 'linear' and 'general'.
        rule: 'min_logit', 'naive', 'linear', 'general' or 'mean'.
        naive_scope: of 'naive', the best net of each 'sample' or of the 'batch'.
        fit_on: of 'linear', whether its weights are those of each 'batch' or of 'held_out' rows.
        ridge, nonneg: of 'general', see `kdops.nn.GeneralEnsembleWeights`.
        temperature: T.
        detach_target: whether the targets are constant.
        own_images: whether every net sees its own augmentation of the images, as in the paper.
        options: of `Online`.
    Source: Guo et al., 2020, "Online Knowledge Distillation via Collaborative Learning", section 3.
    """

    ensemble_weights: Tensor

    def __init__(
        self,
        *,
        count: int = 2,
        rule: str = "min_logit",
        naive_scope: str = "sample",
        fit_on: str = "batch",
        ridge: float = 1e-6,
        nonneg: bool = True,
        temperature: float = 2.0,
        detach_target: bool = True,
        own_images: bool = True,
        **options: Any,
    ):
        super().__init__(temperature=temperature, **options)
        most = MOST_WEIGHTS if rule in ("linear", "general") else None
        self.count = _checks.integer("KDCL", "count", count, 1, most)
        _checks.one_of("KDCL", "fit_on", fit_on, FITS)
        self.rule, self.own_images, self.separable = rule, own_images, detach_target
        self.held_out = rule == "general" or (rule, fit_on) == ("linear", "held_out")
        if rule == "general":
            self.errors = GeneralEnsembleWeights(count, ridge=ridge, nonneg=nonneg)
        self.loss = KDCLLoss(
            rule=rule,
            temperature=self.temperature,
            ce_weight=self.ce_weight,
            naive_scope=naive_scope,
            detach_target=detach_target,
        )
        even = torch.full((count,), 1 / count, dtype=torch.float64)
        self.register_buffer("ensemble_weights", even)

    def assemble(self, make_net: MakeNet, layers: Mapping[str, str]) -> NetGroup:
        nets = self.made(make_net, range(self.count))
        return NetGroup(nets, layers, own_images=self.own_images)

    def fit_held_out(self, logits: Sequence[Tensor], target: Tensor) -> None:
        """Set the weights that `ensemble_weights` has until the next call.

        Args:
            logits: the nets' (N, C) logits of the held-out rows, as they say them in evaluation.
            target: (N,) labels.
        """
        if self.rule == "general":
            self.errors.reset()
            self.errors.update(logits, target)
            fitted = self.errors.solve()
        else:
            fitted = linear_ensemble_weights(logits, target)
        self.ensemble_weights.copy_(fitted)

    def terms(self, peers: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        self.loss.kd_weight = self.soft_weight()
        weights = self.ensemble_weights if self.held_out else None
        loss, terms = self.loss(peers.logits, target, weights, return_terms=True)
        return summands(loss, peers=terms["kl"].sum())
