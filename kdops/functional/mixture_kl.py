"""Peers that learn from mixtures of their own logits: teachers made on the fly."""

from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor

from .. import _checks, reference
from .._native import define
from ._dispatch import Scalars
from ._peers import Batch, PeerLoss, Peers, as_batch, check_rows, peer_outputs, per_peer, warn_alone
from ._rows import REDUCTIONS, accumulation_dtype

RULES = {"weights": 0, "min_logit": 1, "naive": 2}  # the native op's numbers
TARGET_GRADS = {"none": 0, "weights": 1, "all": 2}


def _fake(
    logits: list[Tensor],
    weights: Tensor | None,
    target: Tensor | None,
    ce_weights: list[float],
    temperature: float,
    soft_weight: float,
    ensemble_ce_weight: float,
    rule: int,
    target_grad: int,
    reduction: int,
    ignore_index: int,
    stacked: bool,
    wanted: int,
) -> Sequence[Tensor]:
    batch = Batch(tuple(logits), stacked)
    targets = 1 if weights is None else weights.shape[-2]
    terms = 2 * batch.count + targets
    return peer_outputs(batch, weights, reduction, wanted, terms, False)


_op = define(
    "_mixture_kl(Tensor[] logits, Tensor? weights, Tensor? target, float[] ce_weights, "
    "float temperature, float soft_weight, float ensemble_ce_weight, int rule, int target_grad, "
    "int reduction, int ignore_index, bool stacked, int wanted) -> Tensor[]",
    _fake,
)


def _native(
    batch: Batch, weights: Tensor | None, target: Tensor | None, scalars: Scalars, wanted: int
) -> Sequence[Tensor]:
    ce_weights, temperature, kd_weight, ensemble_ce_weight, rule, *rest = scalars
    reduction, ignore_index, scale_t2, target_grad = rest
    return _op(
        list(batch.tensors),
        weights,
        target,
        ce_weights,
        temperature,
        kd_weight * (temperature * temperature if scale_t2 else 1.0),
        ensemble_ce_weight,
        RULES[rule],
        TARGET_GRADS[target_grad],
        REDUCTIONS[reduction],
        ignore_index,
        batch.stacked,
        wanted,
    )


def _formula(
    batch: Batch, weights: Tensor | None, target: Tensor | None, scalars: Scalars
) -> tuple[Tensor, Tensor]:
    ce_weights, temperature, kd_weight, ensemble_ce_weight, rule, *rest = scalars
    reduction, ignore_index, scale_t2, target_grad = rest
    return reference.mixture_kl(
        batch.tensors[0] if batch.stacked else batch.tensors,
        target,
        weights,
        ce_weights,
        rule=rule,
        temperature=temperature,
        kd_weight=kd_weight,
        ensemble_ce_weight=ensemble_ce_weight,
        reduction=reduction,
        ignore_index=ignore_index,
        scale_t2=scale_t2,
        target_grad=target_grad,
    )


_loss = PeerLoss("mixture_kl", _native, _formula, per_peer=False)


def _others(batch: Batch) -> Tensor:
    """The mean of the other peers' logits, for each peer; its own where it is alone."""
    count, first = batch.count, batch.first
    dtype, device = accumulation_dtype(first.dtype), first.device
    weights = torch.full((count, count), 1 / max(1, count - 1), dtype=dtype, device=device)
    return weights.fill_diagonal_(float(count == 1))


def _weights(batch: Batch, weights: Tensor | None, rule: str) -> Tensor | None:
    """In the accumulation type: (A, K) or (..., A, K) with A = 1 or K."""
    _checks.one_of("mixture_kl", "rule", rule, RULES)
    if rule != "weights":
        if weights is not None:
            raise ValueError(f"mixture_kl: weights must be None for rule {rule!r}, which has none")
        return None
    if weights is None:
        return _others(batch)
    _checks.tensor("mixture_kl", "weights", weights)
    if weights.device != batch.first.device:
        raise RuntimeError(
            "mixture_kl: logits and weights must be on one device, "
            f"got {batch.first.device} and {weights.device}"
        )
    count, lead = batch.count, batch.lead
    allowed = [(*rows, a, count) for rows in ((), lead) for a in (1, count)]
    if tuple(weights.shape) not in allowed:
        raise ValueError(
            f"mixture_kl: weights must be (A, {count}) or {(*lead, 'A', count)} with A = 1 or "
            f"{count}, got shape {tuple(weights.shape)}"
        )
    return weights.to(accumulation_dtype(batch.first.dtype))


@overload
def mixture_kl(
    logits: Peers,
    target: Tensor | None = None,
    *,
    temperature: float = 1.0,
    weights: Tensor | None = None,
    rule: str = "weights",
    kd_weight: float = 1.0,
    ce_weight: float | Sequence[float] = 0.0,
    ensemble_ce_weight: float = 0.0,
    reduction: str = "batchmean",
    ignore_index: int = -100,
    scale_t2: bool = True,
    target_grad: str = "none",
    return_terms: Literal[False] = False,
) -> Tensor: ...
@overload
def mixture_kl(
    logits: Peers,
    target: Tensor | None = None,
    *,
    temperature: float = 1.0,
    weights: Tensor | None = None,
    rule: str = "weights",
    kd_weight: float = 1.0,
    ce_weight: float | Sequence[float] = 0.0,
    ensemble_ce_weight: float = 0.0,
    reduction: str = "batchmean",
    ignore_index: int = -100,
    scale_t2: bool = True,
    target_grad: str = "none",
    return_terms: Literal[True],
) -> tuple[Tensor, dict[str, Tensor]]: ...


def mixture_kl(
    logits: Peers,
    target: Tensor | None = None,
    *,
    temperature: float = 1.0,
    weights: Tensor | None = None,
    rule: str = "weights",
    kd_weight: float = 1.0,
    ce_weight: float | Sequence[float] = 0.0,
    ensemble_ce_weight: float = 0.0,
    reduction: str = "batchmean",
    ignore_index: int = -100,
    scale_t2: bool = True,
    target_grad: str = "none",
    return_terms: bool = False,
) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
    """The loss of K peers whose targets are mixtures of their logits, labels included.

    Targets are logits t_a = sum_k weights_ak z_k, one for all peers (A = 1) or one for each
    (A = K). With q_a = softmax(t_a / T), p_i = softmax(z_i / T) and y = target, a row is

        kd_weight T^2 sum_i KL(q_a(i) || p_i) - sum_i ce_weight_i log softmax(z_i)_y
            - ensemble_ce_weight sum_a log softmax(t_a)_y

    The KLs have terms >= 0, from differences of logits: exactly 0 for equal peers where the weights
    sum to 1, and not cancelled for nearly equal ones.

    Args:
        logits: (K, ..., C) raw logits of K peers, or K tensors (..., C), which are not copied;
            float32, float64, bfloat16 or float16.
        target: (...) int64 or int32 labels in [0, C) or ignore_index; needed for ce_weight != 0,
            ensemble_ce_weight != 0 and the rules that read labels.
        temperature: T in [2^-20, 2^20].
        weights: (A, K), or (..., A, K) with weights of every row's own, of any sign. None: each
            peer's target is the mean of the other peers' logits.
        rule: 'weights'; 'min_logit': for each class the least logit over the peers, once each one's
            label has the logit 0; 'naive': the logits of the peer with the least cross-entropy in
            the row. The latter two have one target for all, need labels and take no weights.
        kd_weight: of the soft terms, finite.
        ce_weight: of the labels, for all peers or one number each.
        ensemble_ce_weight: of the labels' cross-entropy with the targets t_a; its gradient always
            goes to the weights and through t_a to the logits.
        reduction: 'batchmean' and 'mean' divide by the number of counted rows; 'sum'; 'none'.
        ignore_index: a row with this target counts nowhere, whatever its logits and weights.
        scale_t2: whether the soft terms carry T^2.
        target_grad: where the soft terms' gradient goes besides the learning peers: 'none', the
            targets are constants; 'weights', to the weights alone; 'all', to the weights and to
            the logits that were mixed.
        return_terms: whether the loss's terms are returned too.
    Returns:
        A scalar, (...) for 'none'; float32, float64 for float64 inputs. With return_terms also
        {'ce': (K,), 'kl': (K,), 'ensemble_ce': (A,)}, without gradient: the cross-entropies without
        their weight (0 where it is 0), and the KLs with theirs.
        A class with -inf in a peer of weight other than 0 is absent from the target; in the
        learning peer alone it makes the loss +inf; NaN gives NaN, in its row only.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape, range or combination.
        IndexError: for a label out of range; on a GPU its row is NaN instead. RuntimeError: for
        two devices.
    Gradient:
        To all logits, and to the weights; in the inputs' type. Computed in the forward pass; second
        derivatives go through the reference.
    Source: Lan, Zhu, Gong, 2018, "Knowledge Distillation by On-the-Fly Native Ensemble", equations
        4 to 8; Song, Chai, 2018, "Collaborative Learning for Deep Neural Networks", equation 3;
        Guo et al., 2020, "Online Knowledge Distillation via Collaborative Learning", section 3.2;
        Chen et al., 2020, "Online Knowledge Distillation with Diverse Peers", equations 5 to 8.

    >>> peers = [torch.randn(64, 10, requires_grad=True) for _ in range(3)]
    >>> gate = torch.randn(64, 1, 3).softmax(-1)
    >>> mixture_kl(peers, torch.randint(10, (64,)), weights=gate, ce_weight=1.0).backward()
    """
    temperature = _checks.temperature("mixture_kl", temperature)
    for name, value in (("kd_weight", kd_weight), ("ensemble_ce_weight", ensemble_ce_weight)):
        _checks.number("mixture_kl", name, value)
    _checks.one_of("mixture_kl", "reduction", reduction, REDUCTIONS)
    _checks.one_of("mixture_kl", "target_grad", target_grad, TARGET_GRADS)
    batch = as_batch("mixture_kl", logits)
    if batch.count == 1 and weights is None and rule == "weights":
        warn_alone("mixture_kl")
    weights = _weights(batch, weights, rule)
    ce_weights = per_peer("mixture_kl", "ce_weight", ce_weight, batch.count)
    labels = any(ce_weights) or ensemble_ce_weight != 0 or rule != "weights"
    check_rows("mixture_kl", batch, target, labels, ignore_index)
    soft, ensemble_ce = float(kd_weight), float(ensemble_ce_weight)
    scalars = (ce_weights, temperature, soft, ensemble_ce, rule)
    scalars = (*scalars, reduction, ignore_index, scale_t2, target_grad)
    # Unreduced, the rows' upstream gradients have no single gradient of weights that all share.
    shared = weights is not None and weights.requires_grad and weights.dim() == 2
    reads = ignore_index if labels else None
    served = not (shared and reduction == "none")
    value, terms = _loss(batch, weights, target, scalars, reads, served=served)
    if not return_terms:
        return value
    ce, kl, ensemble = terms.split([batch.count, batch.count, len(terms) - 2 * batch.count])
    return value, {"ce": ce, "kl": kl, "ensemble_ce": ensemble}
