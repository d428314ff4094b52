"""Peers that learn from each other's soft targets: the KLs of all pairs in one pass."""

from collections.abc import Sequence
from typing import Literal, overload

from torch import Tensor

from .. import _checks, reference
from .._native import define
from ._dispatch import Scalars
from ._peers import Batch, PeerLoss, Peers, as_batch, check_rows, peer_outputs, per_peer, warn_alone
from ._rows import REDUCTIONS


def _fake(
    logits: list[Tensor],
    target: Tensor | None,
    weights: list[float],
    ce_weights: list[float],
    temperature: float,
    soft_weight: float,
    reduction: int,
    ignore_index: int,
    stacked: bool,
    wanted: int,
) -> Sequence[Tensor]:
    batch = Batch(tuple(logits), stacked)
    return peer_outputs(batch, None, reduction, wanted, 2 * batch.count, True)


# weights: K x K, row i those of peer i's loss.
_op = define(
    "_mutual_kl(Tensor[] logits, Tensor? target, float[] weights, float[] ce_weights, "
    "float temperature, float soft_weight, int reduction, int ignore_index, bool stacked, "
    "int wanted) -> Tensor[]",
    _fake,
)


def _native(
    batch: Batch, _: None, target: Tensor | None, scalars: Scalars, wanted: int
) -> Sequence[Tensor]:
    weights, ce_weights, temperature, reduction, ignore_index, scale_t2, _ = scalars
    return _op(
        list(batch.tensors),
        target,
        [w for row in weights for w in row],
        ce_weights,
        temperature,
        temperature * temperature if scale_t2 else 1.0,
        REDUCTIONS[reduction],
        ignore_index,
        batch.stacked,
        wanted,
    )


def _formula(
    batch: Batch, _: None, target: Tensor | None, scalars: Scalars
) -> tuple[Tensor, Tensor]:
    weights, ce_weights, temperature, reduction, ignore_index, scale_t2, peer_grad = scalars
    return reference.mutual_kl(
        batch.tensors[0] if batch.stacked else batch.tensors,
        target,
        weights,
        ce_weights,
        temperature=temperature,
        reduction=reduction,
        ignore_index=ignore_index,
        scale_t2=scale_t2,
        peer_grad=peer_grad,
    )


_loss = PeerLoss("mutual_kl", _native, _formula, per_peer=True)


def _matrix(weights: Tensor | Sequence[Sequence[float]] | None, count: int) -> list[list[float]]:
    """Of the KLs, K x K with zeros on the diagonal; by default the mean over the others."""
    if weights is None:
        w = 1 / max(1, count - 1)
        return [[w * (i != j) for j in range(count)] for i in range(count)]
    if isinstance(weights, Tensor) and weights.requires_grad:
        raise ValueError("mutual_kl: weights must be constants, got a tensor that requires grad")
    rows = weights.tolist() if isinstance(weights, Tensor) else weights
    if not isinstance(rows, Sequence):
        raise TypeError(f"mutual_kl: weights must be rows of numbers, got {type(rows).__name__}")
    rows = [list(row) if isinstance(row, Sequence) else row for row in rows]
    if len(rows) != count or any(not isinstance(r, list) or len(r) != count for r in rows):
        raise ValueError(
            f"mutual_kl: weights must be {count} x {count}, a row for each peer, got {weights}"
        )
    for i, row in enumerate(rows):
        for j, w in enumerate(row):
            _checks.number("mutual_kl", f"weights[{i}][{j}]", w, low=0)
            if i == j and w != 0:
                raise ValueError(
                    f"mutual_kl: weights must be 0 on the diagonal, got {w} for peer {i}"
                )
    return rows


@overload
def mutual_kl(
    logits: Peers,
    target: Tensor | None = None,
    *,
    temperature: float = 1.0,
    weights: Tensor | Sequence[Sequence[float]] | None = None,
    ce_weight: float | Sequence[float] = 0.0,
    reduction: str = "batchmean",
    ignore_index: int = -100,
    scale_t2: bool = True,
    peer_grad: bool = False,
    return_terms: Literal[False] = False,
) -> Tensor: ...
@overload
def mutual_kl(
    logits: Peers,
    target: Tensor | None = None,
    *,
    temperature: float = 1.0,
    weights: Tensor | Sequence[Sequence[float]] | None = None,
    ce_weight: float | Sequence[float] = 0.0,
    reduction: str = "batchmean",
    ignore_index: int = -100,
    scale_t2: bool = True,
    peer_grad: bool = False,
    return_terms: Literal[True],
) -> tuple[Tensor, dict[str, Tensor]]: ...


def mutual_kl(
    logits: Peers,
    target: Tensor | None = None,
    *,
    temperature: float = 1.0,
    weights: Tensor | Sequence[Sequence[float]] | None = None,
    ce_weight: float | Sequence[float] = 0.0,
    reduction: str = "batchmean",
    ignore_index: int = -100,
    scale_t2: bool = True,
    peer_grad: bool = False,
    return_terms: bool = False,
) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
    """The losses of K peers that learn from each other, labels included, in one pass.

    With p_i = softmax(logits_i / T) and y = target, the loss of peer i is, a row,

        T^2 sum_j weights_ij KL(p_j || p_i) - ce_weight_i log softmax(logits_i)_y

    The other peers are targets, constant unless peer_grad. Every KL is summed in a form whose
    terms are all >= 0, from differences of logits: exactly 0, with an exactly zero gradient, for
    equal peers, and not cancelled for nearly equal ones.

    Args:
        logits: (K, ..., C) raw logits of K peers, or K tensors (..., C), which are not copied;
            float32, float64, bfloat16 or float16. Of a list, a peer that does not require grad is
            a target alone: nothing is spent on its gradient.
        target: (...) int64 or int32 labels in [0, C) or ignore_index; needed for ce_weight != 0.
        temperature: T in [2^-20, 2^20].
        weights: (K, K) finite constants >= 0 with a zero diagonal: row i says whom peer i learns
            from. None: 1 / (K - 1), the mean over the others.
        ce_weight: of the labels, for all peers or one number each.
        reduction: 'batchmean' and 'mean' divide by the number of counted rows; 'sum'; 'none'.
        ignore_index: a row with this target counts nowhere, whatever its logits.
        scale_t2: whether the soft terms carry T^2.
        peer_grad: whether the targets get their gradient too (then through the reference).
        return_terms: whether the losses' terms are returned too.
    Returns:
        (K,) losses, (K, ...) for 'none'; float32, float64 for float64 inputs. With return_terms
        also {'ce': (K,), 'kl': (K,)}, without gradient: the cross-entropies without their weight (0
        where it is 0), and the weighted sums of KLs. One peer alone has no soft terms.
        A logit of -inf in the same column of two peers drops the column for that pair; in the
        learning one alone it makes its loss +inf; NaN gives NaN, in its row only.
    Raises:
        TypeError: for a wrong type or dtype. ValueError: for a wrong shape, range or combination.
        IndexError: for a label out of range; on a GPU its row is NaN instead. RuntimeError: for
        two devices.
    Gradient:
        To all logits; in the inputs' type. Computed in the forward pass; second derivatives go
        through the reference.
    Source: Zhang, Xiang, Hospedales, Lu, 2018, "Deep Mutual Learning", equations 4 to 8; Yao, Sun,
        2020, "Knowledge Transfer via Dense Cross-Layer Mutual-Distillation", equation 5.

    >>> peers = [torch.randn(64, 10, requires_grad=True) for _ in range(2)]
    >>> mutual_kl(peers, torch.randint(10, (64,)), ce_weight=1.0).sum().backward()
    """
    temperature = _checks.temperature("mutual_kl", temperature)
    _checks.one_of("mutual_kl", "reduction", reduction, REDUCTIONS)
    batch = as_batch("mutual_kl", logits)
    ce_weights = per_peer("mutual_kl", "ce_weight", ce_weight, batch.count)
    labels = any(ce_weights)
    check_rows("mutual_kl", batch, target, labels, ignore_index)
    if batch.count == 1 and weights is None:
        warn_alone("mutual_kl")
    weights = _matrix(weights, batch.count)
    scalars = (weights, ce_weights, temperature, reduction, ignore_index, scale_t2, peer_grad)
    reads = ignore_index if labels else None
    losses, terms = _loss(batch, None, target, scalars, reads, served=not peer_grad)
    if not return_terms:
        return losses
    ce, kl = terms.unflatten(0, (2, batch.count))
    return losses, {"ce": ce, "kl": kl}
