"""Statistics and tables of what runs showed."""

import math

import pytest

pytest.importorskip("scipy", reason="needs the extra kdops[train]")
pytest.importorskip("rich", reason="needs the extra kdops[train]")

from kdops.results import statistics


def test_holm():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert all(math.isnan(p) for p in statistics.holm([math.nan, math.nan]))


def test_paired_gain():
    baseline = [90.0, 91.0, 89.0]
    gains = statistics.paired_gains(
        baseline,
        {"steady": [92.0, 93.1, 91.0], "noisy": [95.0, 90.0, 89.5], "worse": [88.0, 89.0, 87.1]},
    )
    noisy = gains["noisy"]
    assert noisy.points == [5, -1, 0.5]
    assert (noisy.mean, noisy.wins) == (1.5, 2)
    assert noisy.sd == pytest.approx(math.sqrt((3.5**2 + 2.5**2 + 1) / 2))
    # t = mean / (sd / sqrt 3) with 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2)
    t = noisy.mean / (noisy.sd / math.sqrt(3))
    assert noisy.p == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert noisy.p_holm == noisy.p  # the largest of the three
    verdicts = {name: gain.verdict for name, gain in gains.items()}
    assert verdicts == {"steady": "better", "noisy": "not distinguishable", "worse": "worse"}


def test_correction_can_undo_a_gain():
    values = [91.0, 92.4, 90.6]
    methods = {"method": values}
    baseline = [90.0, 91.0, 89.0]
    assert statistics.paired_gains(baseline, methods)["method"].verdict == "better"
    methods |= {
        str(i): [x + noise for x, noise in zip(baseline, (1, -1, 0.1), strict=True)]
        for i in range(4)
    }
    gain = statistics.paired_gains(baseline, methods)["method"]
    assert gain.p < 0.05 < gain.p_holm
    assert gain.verdict == "not distinguishable"


def test_no_claim_from_one_seed_or_no_difference():
    assert statistics.paired_gains([90.0], {"x": [95.0]})["x"].verdict == "one seed, no test"
    same = statistics.paired_gains([90.0, 91.0], {"x": [90.0, 91.0]})["x"]
    assert (same.p, same.verdict) == (1.0, "not distinguishable")
