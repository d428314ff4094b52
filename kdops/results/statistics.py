"""Gains paired by seed, and when they may be called gains."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05


@dataclass(frozen=True)
class Gain:
    """One method minus the baseline, seed by seed, in points of test accuracy."""

    points: list[float]
    mean: float
    sd: float  # nan for one seed
    wins: int
    p: float  # two-sided paired t test; nan for one seed
    p_holm: float  # corrected for all methods of the table

    @property
    def verdict(self) -> str:
        if len(self.points) < 2:
            return "one seed, no test"
        if not self.p_holm <= LEVEL:
            return "not distinguishable"
        return "better" if self.mean > 0 else "worse"


def mean_sd(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def paired_p(values: list[float], baseline: list[float]) -> float:
    """Two-sided p of the paired t test; nan for one seed, 1 where nothing differs."""
    if len(values) < 2:
        return math.nan
    if np.allclose(values, baseline):
        return 1.0
    return float(stats.ttest_rel(values, baseline).pvalue)


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction: the i-th smallest of n times (n - i), never decreasing."""
    corrected, floor = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values)):
        floor = max(floor, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = floor if not math.isnan(p_values[index]) else math.nan
    return corrected


def paired_gains(baseline: list[float], methods: dict[str, list[float]]) -> dict[str, Gain]:
    return gains_of_pairs({name: (values, baseline) for name, values in methods.items()})


def gains_of_pairs(pairs: dict[str, tuple[list[float], list[float]]]) -> dict[str, Gain]:
    """Gains of (values, their own baseline), corrected together."""
    raw = [paired_p(*pair) for pair in pairs.values()]
    gains = {}
    for (name, pair), p, corrected in zip(pairs.items(), raw, holm(raw), strict=True):
        points = [value - base for value, base in zip(*pair, strict=True)]
        mean, sd = mean_sd(points)
        gains[name] = Gain(points, mean, sd, sum(x > 0 for x in points), p, corrected)
    return gains
