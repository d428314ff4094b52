"""Weights that change with the epoch; each is called with the epoch, counted from 0."""

import math
from dataclasses import dataclass


def _check(schedule: str, **weights: float) -> None:
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise ValueError(f"{schedule}: {name} must be finite and >= 0, got {weight}")


@dataclass(frozen=True)
class LinearDecay:
    """FitNets' weight of the soft targets: `initial` to `final` by equal steps.

    `initial` before epoch `start`, `final` from epoch `saturate` on. The defaults are the authors'
    configuration, for a loss without T^2: with `scale_t2` divide by the temperature squared.

    Source: Romero et al., 2015, "FitNets: Hints for Thin Deep Nets", section 2.3, and its code,
        TeacherDecayOverEpoch.
    """

    initial: float = 4.0
    final: float = 1.0
    start: int = 5
    saturate: int = 400

    def __post_init__(self) -> None:
        _check("LinearDecay", initial=self.initial, final=self.final)
        if not 0 <= self.start < self.saturate:
            raise ValueError(
                "LinearDecay: start and saturate must be epochs with 0 <= start < saturate, "
                f"got {self.start} and {self.saturate}"
            )

    def __call__(self, epoch: int) -> float:
        if epoch < self.start:
            return self.initial
        if epoch >= self.saturate:
            return self.final
        step = (self.initial - self.final) / (self.saturate - self.start + 1)
        return self.initial - step * (epoch - self.start + 1)


@dataclass(frozen=True)
class CriticalPeriod:
    """HKD's weights of the layers: the hidden ones guide the first epochs, the last one always.

    initial * decay^epoch for every layer but the last, which has `last`; the authors' values put a
    hidden layer below the last one from epoch 13 on.

    Source: Passalis, Tzelepi, Tefas, 2020, "Heterogeneous Knowledge Distillation using Information
        Flow Modeling", section 3.3.
    """

    initial: float = 100.0
    decay: float = 0.7
    last: float = 1.0

    def __post_init__(self) -> None:
        _check("CriticalPeriod", initial=self.initial, decay=self.decay, last=self.last)

    def __call__(self, epoch: int, layers: int) -> list[float]:
        return [self.initial * self.decay**epoch] * (layers - 1) + [self.last] * (layers > 0)


@dataclass(frozen=True)
class SigmoidRampup:
    """The weight of peers' soft targets while the peers still learn the labels: up to 1.

    exp(-5 (1 - min(epoch, length) / length)^2): 0.0067 at epoch 0, 1 from epoch `length` on.

    Source: the authors' code of Lan, Zhu, Gong, 2018, "Knowledge Distillation by On-the-Fly Native
        Ensemble", with length 80.
    """

    length: int = 80

    def __post_init__(self) -> None:
        if isinstance(self.length, bool) or not isinstance(self.length, int):
            raise TypeError(
                f"SigmoidRampup: length must be an int, got {type(self.length).__name__}"
            )
        if self.length < 1:
            raise ValueError(f"SigmoidRampup: length must be >= 1 epoch, got {self.length}")

    def __call__(self, epoch: int) -> float:
        return math.exp(-5.0 * (1.0 - min(epoch, self.length) / self.length) ** 2)
