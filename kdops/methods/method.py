"""What every method is: the layers that it reads, the parts that it learns, its loss."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .. import _checks
from .. import functional as F
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
        name = type(self).__name__
        self.ce_weight = _checks.number(name, "ce_weight", ce_weight, low=0)
        self.kd_weight = _checks.number(name, "kd_weight", kd_weight, low=0)
        self.temperature = _checks.temperature(name, temperature)
        self.epoch = 0

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Make the parts with parameters to the shapes of one batch's outputs."""

    def set_epoch(self, epoch: int) -> None:
        """Tell methods with a schedule the epoch, counted from 0."""
        self.epoch = epoch

    def soft_weight(self) -> float:
        """The weight of the soft targets in this epoch."""
        return self.kd_weight

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        """The summands of the loss by name, each with its weight."""
        logits, terms, kd_weight = student.logits, {}, self.soft_weight()
        if kd_weight:
            terms["logits"] = F.kd_loss(
                logits,
                teacher.logits,
                target,
                temperature=self.temperature,
                kd_weight=kd_weight,
                ce_weight=self.ce_weight,
            )
        elif self.ce_weight:
            terms["labels"] = nn.functional.cross_entropy(logits.float(), target)
        return terms

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """The loss, a scalar."""
        return torch.stack(list(self.terms(student, teacher, target).values())).sum()


def layer_weights(function: str, layers: str | Sequence[str] | Mapping[str, float]) -> dict:
    """Layers and their weights: one name, several names, or a mapping from names to weights."""
    if isinstance(layers, str):
        layers = (layers,)
    weights = dict(layers) if isinstance(layers, Mapping) else dict.fromkeys(layers, 1.0)
    if not weights:
        raise ValueError(f"{function}: layers must name at least one layer, got none")
    for name, weight in weights.items():
        _checks.number(function, f"layers[{name!r}]", weight, low=0)
    return weights
