"""A specialist made of a generalist: its last layer, its labels, its soft targets."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ... import _checks
from ...reference.numbers import accumulation
from .subset import checked, split


@torch.no_grad()
def _reduced(layer: nn.Linear, inside: Tensor, rest: Tensor) -> nn.Linear:
    weight, bias = layer.weight[inside], None
    share = torch.full_like(layer.weight[rest, 0], 1 / len(rest))
    if layer.bias is not None:
        share = layer.bias[rest].softmax(0)
        bias = torch.cat([layer.bias[inside], layer.bias[rest].logsumexp(0, keepdim=True)])
    head = nn.Linear(
        layer.in_features,
        len(inside) + 1,
        bias is not None,
        device=weight.device,
        dtype=weight.dtype,
    )
    head.weight.copy_(torch.cat([weight, (share @ layer.weight[rest])[None]]))
    if bias is not None:
        head.bias.copy_(bias)
    return head.train(layer.training)


def specialist_of(generalist: nn.Module, head: str, classes: Sequence[int]) -> nn.Module:
    """A copy of the generalist that knows `classes` and one dustbin class, the last.

    The dustbin's true logit is log sum_j exp(w_j h + b_j) over all other classes. Its row is the
    tangent of this at h = 0: weight sum_j s_j w_j with s = softmax(b), bias log sum_j exp(b_j). So
    a new specialist gives its dustbin the generalist's probability of all other classes at h = 0,
    and less elsewhere, for the true logit is convex. Without a bias the row is the mean, and the
    logarithm of the number of other classes is left to training.

    Args:
        generalist: any module; it is left as it is, parameters that are frozen stay so in the copy.
        head: the path of its last layer, an `nn.Linear` with one output a class, as of
            `named_modules`; "" where the generalist is that layer.
        classes: S, distinct, in the order of the outputs; at least one class must be left out.
    Returns:
        The copy, with len(classes) + 1 outputs; the new layer's parameters require a gradient.
    Raises:
        AttributeError: for a path without a module. TypeError: where it is not linear. ValueError:
        for wrong classes.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section
        5.2; the tangent is ours.

    >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10))
    >>> specialist_of(net, "2", (3, 5, 8))(torch.randn(4, 8)).shape
    torch.Size([4, 4])
    """
    layer = generalist.get_submodule(head)
    if not isinstance(layer, nn.Linear) or isinstance(layer, nn.LazyLinear):
        raise TypeError(
            f"specialist_of: head must be the path of an nn.Linear, got {type(layer).__name__}"
        )
    layer = _reduced(
        layer, *split("specialist_of", classes, layer.out_features, layer.weight.device)
    )
    if not head:
        return layer
    specialist = copy.deepcopy(generalist)
    specialist.set_submodule(head, layer)
    return specialist


def specialist_labels(
    target: Tensor, classes: Sequence[int], *, ignore_index: int = -100
) -> Tensor:
    """A specialist's labels: the place of a class in `classes`, len(classes) for all others.

    Args:
        target: labels of any shape, int64 or int32.
        classes: S, distinct, in the order of the specialist's outputs.
        ignore_index: kept; negative, or above the dustbin.
    Returns:
        The same shape and type. Negative labels stay, so that a loss refuses them.
    Raises:
        TypeError, ValueError: for wrong types or ranges.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section
        5.2.

    >>> specialist_labels(torch.tensor([0, 7, 3, -100]), (3, 7)).tolist()
    [2, 1, 0, -100]
    """
    classes = checked("specialist_labels", classes)
    if not isinstance(target, Tensor) or target.dtype not in _checks.LABELS:
        got = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"specialist_labels: target must be an int64 or int32 tensor, got {got}")
    dustbin = len(classes)
    _checks.integer("specialist_labels", "ignore_index", ignore_index, -math.inf)
    if 0 <= ignore_index <= dustbin:
        raise ValueError(
            f"specialist_labels: ignore_index must be no label of the specialist, 0..{dustbin}, "
            f"got {ignore_index}"
        )
    ascending, place = torch.tensor(classes, device=target.device).sort()
    found = torch.searchsorted(ascending, target.long()).clamp(max=dustbin - 1)
    label = torch.where(ascending[found] == target, place[found], dustbin).to(target.dtype)
    return torch.where((target < 0) | (target == ignore_index), target, label)


def reduced_targets(probabilities: Tensor, classes: Sequence[int]) -> Tensor:
    """Soft targets of a specialist: those of its classes, and the sum of all others.

    Args:
        probabilities: (..., K) of the generalist, at whatever temperature.
        classes: S, distinct, in the order of the specialist's outputs; not all K.
    Returns:
        (..., len(classes) + 1); float32, float64 for float64 inputs.
    Raises:
        TypeError, ValueError: for wrong types or classes.
    Gradient:
        By autograd.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section 6.

    >>> reduced_targets(torch.tensor([0.5, 0.25, 0.125, 0.125]), (1, 0))
    tensor([0.2500, 0.5000, 0.2500])
    """
    _checks.tensor("reduced_targets", "probabilities", probabilities)
    p = accumulation(probabilities)
    inside, rest = split("reduced_targets", classes, p.shape[-1], p.device)
    return torch.cat([p[..., inside], p[..., rest].sum(-1, keepdim=True)], -1)


def reduced_logits(logits: Tensor, classes: Sequence[int], *, temperature: float = 1.0) -> Tensor:
    """Logits whose softmax at `temperature` is that of the generalist's with all others summed.

    The dustbin's is T log sum_j exp(z_j / T): another one at each temperature, so it must be the
    loss's: kd_loss(student, reduced_logits(z, classes, temperature=T), temperature=T).

    Args:
        logits: (..., K) of the generalist.
        classes: S, distinct, in the order of the specialist's outputs; not all K.
        temperature: T in [2^-20, 2^20].
    Returns:
        (..., len(classes) + 1); float32, float64 for float64 inputs.
    Raises:
        TypeError, ValueError: for wrong types, classes or temperatures.
    Gradient:
        By autograd.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section 6.
    """
    temperature = _checks.temperature("reduced_logits", temperature)
    _checks.tensor("reduced_logits", "logits", logits)
    z = accumulation(logits)
    inside, rest = split("reduced_logits", classes, z.shape[-1], z.device)
    dustbin = temperature * (z[..., rest] / temperature).logsumexp(-1, keepdim=True)
    return torch.cat([z[..., inside], dustbin], -1)
