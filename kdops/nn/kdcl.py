"""KDCL: nets that learn from one target made of all their logits."""

import torch
from torch import Tensor

from .. import _checks
from .. import functional as F
from ..functional._peers import Peers, as_batch
from .ensemble_weights import linear_ensemble_weights
from .mixtures import MixtureLoss
from .mutual import Terms

RULES = ("min_logit", "naive", "linear", "general", "mean")
SCOPES = ("sample", "batch")


class KDCLLoss(MixtureLoss):
    """KDCL: nets that learn from one target made of all their logits, and the labels.

        sum_i ce_weight CE(z_i) + kd_weight T^2 KL(softmax(z_t / T) || softmax(z_i / T))

    z_t by the rule: 'min_logit', for each class the least logit once the label's are 0; 'naive',
    the logits of the net with the least cross-entropy; 'linear', sum_k w_k z_k of least
    cross-entropy, see `linear_ensemble_weights`; 'general', the same with weights from held-out
    rows, see `GeneralEnsembleWeights`; 'mean', none of the paper's but a public implementation's.
    Called with (logits, target, weights=None): K nets' logits and their (K,) weights, which
    'general' needs and which 'linear' fits on the batch itself where they are not given.

    Args:
        rule: see above.
        temperature: T.
        kd_weight, ce_weight: of the soft targets and the labels.
        naive_scope: whether the best net is that of each 'sample' or of the 'batch'.
        scale_t2, ignore_index: as of `mixture_kl`.
        detach_target: whether the targets are constant.
    Source: Guo et al., 2020, "Online Knowledge Distillation via Collaborative Learning", section
        3.2.

    >>> nets = [torch.randn(64, 10, requires_grad=True) for _ in range(2)]
    >>> KDCLLoss(rule="linear")(nets, torch.randint(10, (64,))).backward()
    """

    def __init__(
        self,
        *,
        rule: str = "min_logit",
        temperature: float = 2.0,
        kd_weight: float = 1.0,
        ce_weight: float = 1.0,
        naive_scope: str = "sample",
        scale_t2: bool = True,
        detach_target: bool = True,
        ignore_index: int = -100,
    ):
        _checks.one_of("KDCLLoss", "rule", rule, RULES)
        _checks.one_of("KDCLLoss", "naive_scope", naive_scope, SCOPES)
        super().__init__(
            rule=rule,
            temperature=temperature,
            kd_weight=kd_weight,
            ce_weight=ce_weight,
            naive_scope=naive_scope,
            scale_t2=scale_t2,
            detach_target=detach_target,
            ignore_index=ignore_index,
        )

    def forward(
        self,
        logits: Peers,
        target: Tensor,
        weights: Tensor | None = None,
        *,
        return_terms: bool = False,
    ) -> Tensor | tuple[Tensor, Terms]:
        if weights is not None and self.rule not in ("linear", "general"):
            raise ValueError(
                f"KDCLLoss: weights must be None for rule {self.rule!r}, which has its own"
            )
        by_row = self.rule == "min_logit" or (self.rule, self.naive_scope) == ("naive", "sample")
        options = (
            {"rule": self.rule} if by_row else {"weights": self.weights(logits, target, weights)}
        )
        loss, terms = self.mixture(
            logits,
            target,
            kd_weight=self.kd_weight,
            ce_weight=self.ce_weight,
            **options,
        )
        return (loss, terms) if return_terms else loss

    def weights(self, logits: Peers, target: Tensor, given: Tensor | None) -> Tensor:
        """(1, K) weights of the nets' logits, the same for all rows."""
        batch = as_batch("KDCLLoss", logits)
        if self.rule == "general" and given is None:
            raise ValueError("KDCLLoss: weights must be given for rule 'general', got None")
        if given is not None:
            _checks.tensor("KDCLLoss", "weights", given)
        if self.rule in ("linear", "general"):
            fitted = {"ignore_index": self.ignore_index}
            found = linear_ensemble_weights(logits, target, **fitted) if given is None else given
            if tuple(found.shape) != (batch.count,):
                raise ValueError(
                    f"KDCLLoss: weights must be ({batch.count},), one a net, "
                    f"got shape {tuple(found.shape)}"
                )
            return found.detach().to(batch.first.device)[None]
        if self.rule == "mean":
            return torch.full((1, batch.count), 1 / batch.count, device=batch.first.device).double()
        best = self.best(batch.count, logits, target)
        return torch.nn.functional.one_hot(best, batch.count).double()[None]

    def best(self, count: int, logits: Peers, target: Tensor) -> Tensor:
        """The number of the net with the least cross-entropy over the batch."""
        constant = [x.detach() for x in logits]
        nobody = [[0.0] * count] * count
        ce = F.mutual_kl(
            constant, target, weights=nobody, ce_weight=1.0, ignore_index=self.ignore_index
        )
        return ce.argmin()
