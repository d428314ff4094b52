"""What a trained net gets right, and a class that it never saw with a bias."""

from itertools import combinations

import torch
from torch import Tensor, nn

from ..metrics import churn
from ..peers import Group
from .data import Split
from .loop import accuracy, predict

BIASES = torch.linspace(0, 20, 201)


def per_class(logits: Tensor, labels: Tensor) -> list[float]:
    return [accuracy(logits[labels == c], labels[labels == c]) for c in range(logits.shape[1])]


def best_bias(logits: Tensor, labels: Tensor, label: int) -> float:
    """The smallest bias of the class's logit with the highest accuracy on these rows."""
    accuracies = [accuracy(biased(logits, label, bias), labels) for bias in BIASES.tolist()]
    return BIASES[accuracies.index(max(accuracies))].item()


def biased(logits: Tensor, label: int, bias: float) -> Tensor:
    shift = torch.zeros(logits.shape[1])
    shift[label] = bias
    return logits + shift


def scores(net: nn.Module, split: Split, missing: int | None = None) -> dict:
    """Accuracy on val and test; for a missing class also with a bias that val chose."""
    val, test = (predict(net, part) for part in (split.val, split.test))
    labels = split.test.labels
    found = {
        "val": accuracy(val, split.val.labels),
        "test": accuracy(test, labels),
        "per_class": per_class(test, labels),
    }
    if missing is not None:
        bias = best_bias(val, split.val.labels, missing)
        moved = biased(test, missing, bias)
        found["biased"] = {
            "bias": bias,
            "test": accuracy(moved, labels),
            "per_class": per_class(moved, labels),
        }
    return found


def peer_scores(group: Group, ensemble: nn.Module, split: Split) -> dict:
    """Accuracy of every peer and of all together; churn: the rows that two peers answer otherwise.

    All in per cent; churn is of the test rows, the mean over the pairs of peers.
    """
    peers = [group.peer(i) for i in range(group.count)]
    found = {"ensemble": {}}
    for name in ("val", "test"):
        part = getattr(split, name)
        logits = [predict(peer, part) for peer in peers]
        found[name] = [accuracy(x, part.labels) for x in logits]
        found["ensemble"][name] = accuracy(predict(ensemble, part), part.labels)
    return {**found, "churn": mean_churn(logits), **group.record()}


def mean_churn(logits: list[Tensor]) -> float:
    """Per cent of rows that two peers answer otherwise, the mean over the pairs."""
    pairs = [100 * churn(a, b) for a, b in combinations(logits, 2)]
    return sum(pairs) / max(1, len(pairs))
