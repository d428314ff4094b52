"""What every method is: the layers that it reads, the parts that it learns, its loss."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from .. import functional as F
from ..functional._rows import accumulation_dtype
from ..taps import Outputs


class Method(nn.Module):
    """A way to distil, as a module to be called on the outputs of student and teacher.

    Its `layers` are names that both networks' features have: `Tapped` maps them to each network's
    own layers. `prepare` makes the parts with parameters, if any; they are trained with the student
    and forgotten with the method. `terms` are the loss's summands by name.

    The base class is labels and Hinton's soft targets, the terms that most methods add theirs to.

    Args:
        ce_weight: of the cross-entropy with the labels.
        kd_weight: of the KL with the teacher's soft targets, T^2 included.
        temperature: T of the soft targets.
    """

    layers: tuple[str, ...] = ()
    least_rows = 1  # of a batch

    def __init__(
        self,
        *,
        ce_weight: float = 1.0,
        kd_weight: float = 0.0,
        temperature: float = 4.0,
    ):
        super().__init__()
        self.ce_weight = self.number("ce_weight", ce_weight)
        self.kd_weight = self.number("kd_weight", kd_weight)
        self.temperature = _checks.temperature(type(self).__name__, temperature)
        self.epoch = 0

    def number(self, name: str, value: float) -> float:
        """A weight, or another option >= 0."""
        return _checks.number(type(self).__name__, name, value, low=0)

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Make the parts with parameters to the shapes of one batch's outputs."""

    def set_epoch(self, epoch: int) -> None:
        """Tell methods with a schedule the epoch, counted from 0."""
        self.epoch = epoch

    def soft_weight(self) -> float:
        """The weight of the soft targets in this epoch."""
        return self.kd_weight

    def feature(self, outputs: Outputs | None, layer: str) -> Tensor:
        """What a layer put out; the layer 'logits' is the output itself.

        Raises:
            ValueError: for outputs without the layer, and where there is no teacher.
        """
        name = type(self).__name__
        if outputs is None:
            raise ValueError(f"{name}: the outputs of a teacher must be given, got None")
        if layer == "logits":
            return outputs.logits
        if layer not in outputs.features:
            there = ", ".join(map(repr, outputs.features)) or "none"
            raise ValueError(f"{name}: features must have the layer {layer!r}, there are: {there}")
        return outputs.features[layer]

    def pair(self, student: Outputs, teacher: Outputs | None, layer: str) -> tuple[Tensor, Tensor]:
        return self.feature(student, layer), self.feature(teacher, layer)

    def check_prepared(self, parts: nn.ModuleList, count: int) -> None:
        if len(parts) != count:
            raise RuntimeError(f"{type(self).__name__}: call prepare(student, teacher) first")

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        """The summands of the loss by name, each with its weight."""
        kd_weight, ours = self.soft_weight(), student.logits
        if not (kd_weight or self.ce_weight):
            return {}
        value = F.kd_loss(
            ours,
            self.feature(teacher, "logits") if kd_weight else ours.detach(),
            target,
            temperature=self.temperature,
            kd_weight=kd_weight,
            ce_weight=self.ce_weight,
        )
        return {"logits" if kd_weight else "labels": value}

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """The loss, a scalar.

        Raises:
            ValueError: where every weight is 0.
        """
        terms = self.terms(student, teacher, target)
        if not terms:
            raise ValueError(f"{type(self).__name__}: one weight at least must be above 0")
        return torch.stack(list(terms.values())).sum()


def layer_weights(
    function: str, layers: str | Sequence[str] | Mapping[str, float]
) -> dict[str, float]:
    """Layers and their weights: one name, several names, or a mapping from names to weights."""
    if isinstance(layers, str):
        layers = (layers,)
    weights = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
    if not weights:
        raise ValueError(f"{function}: layers must name at least one layer, got none")
    for name, weight in weights.items():
        if not isinstance(name, str):
            raise TypeError(f"{function}: layers must be names, got {type(name).__name__}")
        _checks.number(function, f"layers[{name!r}]", weight, low=0)
    return weights


def layer_pairs(
    function: str, name: str, pairs: Sequence[Sequence[str]]
) -> tuple[tuple[str, ...], ...]:
    """Pairs of layers of one network."""
    if any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
        raise ValueError(f"{function}: {name} must be pairs of layers, got {pairs}")
    return tuple(map(tuple, pairs))


def tapped(layers: Iterable[str]) -> tuple[str, ...]:
    """The layers that hooks read: each once, without 'logits', which every output has."""
    return tuple(dict.fromkeys(layer for layer in layers if layer != "logits"))


def like(parts: nn.Module, x: Tensor) -> nn.Module:
    """Parts with parameters for features like x: on its device, in float32, or float64 for that."""
    return parts.to(x.device, accumulation_dtype(x.dtype))


def try_options(loss: Callable[..., Tensor], shape: tuple[int, ...], **options: Any) -> None:
    """Call a loss on ones: its options are checked before anything is trained."""
    loss(*torch.ones(2, *shape, device="cpu"), **options)
