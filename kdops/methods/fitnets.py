"""FitNets: a hint from the teacher's middle, then soft targets whose weight decays."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .. import _checks
from .. import functional as F
from ..functional._rows import widened
from ..nn import HintRegressor
from ..nn.hint import ACTIVATIONS
from ..schedules import LinearDecay
from ..taps import Outputs
from .method import Method, layer_weights, like, tapped


class Hint(Method):
    """The first stage: the layers up to the guided one learn the teacher's hint; no labels.

        sum over layers of weight * 1/(2N) sum_n |regressor(student_n) - teacher_n|^2

    The gradient reaches the student's layers up to the guided one, and the regressors.

    Args:
        layers: guided layers and weights; several are trained together. To train them one after the
            other, from the first on, run a `Hint` for each.
        activation: of the teacher's hint layer: None, 'relu', 'tanh' or 'sigmoid'.
        reduction: as of `kdops.hint_loss`; 'mean' keeps its size whatever the layer's.
        options: of `Method`; ce_weight is 0.
    Source: Romero et al., 2015, "FitNets: Hints for Thin Deep Nets", sections 2.2 and 2.3, eq. 3.
    """

    def __init__(
        self,
        layers: str | Sequence[str] | Mapping[str, float] = "middle",
        *,
        activation: str | None = None,
        reduction: str = "batchmean",
        ce_weight: float = 0.0,
        **options: Any,
    ):
        super().__init__(ce_weight=ce_weight, **options)
        name = type(self).__name__
        _checks.one_of(name, "activation", activation, ACTIVATIONS)
        _checks.one_of(name, "reduction", reduction, ("batchmean", "mean", "sum"))
        self.hints, self.layers = (weights := layer_weights(name, layers)), tapped(weights)
        self.activation, self.reduction = activation, reduction
        self.regressors = nn.ModuleList()

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        self.regressors = nn.ModuleList()
        for layer in self.hints:
            ours, theirs = self.pair(student, teacher, layer)
            shapes = ours.shape[1:], theirs.shape[1:]
            self.regressors.append(like(HintRegressor(*shapes, activation=self.activation), ours))

    def terms(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> dict[str, Tensor]:
        self.check_prepared(self.regressors, len(self.hints))
        terms = super().terms(student, teacher, target)
        for (layer, weight), regressor in zip(self.hints.items(), self.regressors, strict=True):
            ours, theirs = self.pair(student, teacher, layer)
            value = F.hint_loss(regressor(widened(ours)), theirs, reduction=self.reduction)
            terms[f"hint {layer}"] = weight * value
        return terms


class FitNets(Hint):
    """The second stage, from the first one's weights; or both stages in one.

        CE(labels) + lambda(epoch) CE(teacher || student at temperature T) + hint_weight hints

    lambda is the paper's, for a term without T^2. Its gradient is that of the KL, which is used.

    Args:
        hint_weight: 0 is the paper's second stage; above 0 the one-stage form of later code, in
            which the hints of `layers` go on with the labels.
        schedule: from the epoch to lambda.
        temperature: the paper's 3.
        layers, activation, reduction: as of `Hint`; not read where hint_weight is 0.
    Source: Romero et al., 2015, "FitNets: Hints for Thin Deep Nets", sections 2.1 and 2.3, eq. 2.
    """

    def __init__(
        self,
        layers: str | Sequence[str] | Mapping[str, float] = "middle",
        *,
        hint_weight: float = 0.0,
        temperature: float = 3.0,
        schedule: LinearDecay | None = None,
        activation: str | None = None,
        reduction: str = "batchmean",
    ):
        super().__init__(
            layers,
            activation=activation,
            reduction=reduction,
            ce_weight=1.0,
            temperature=temperature,
        )
        weight = self.number("hint_weight", hint_weight)
        self.hints = {name: weight * x for name, x in self.hints.items()} if weight else {}
        self.layers, self.schedule = tapped(self.hints), schedule or LinearDecay()

    def soft_weight(self) -> float:
        return self.schedule(self.epoch) / self.temperature**2
