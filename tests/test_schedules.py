"""Weights by epoch, against the authors' numbers."""

import itertools

import pytest

from kdops.schedules import CriticalPeriod, LinearDecay, SigmoidRampup


@pytest.mark.parametrize(
    ("epoch", "weight"),
    [
        (0, 4),
        (4, 4),
        (5, 3.99242424),
        (100, 3.27272727),
        (288, 1.84848485),
        (399, 1.00757576),
        (400, 1),
        (10**6, 1),
    ],
)
def test_fitnets(epoch, weight):
    assert LinearDecay()(epoch) == pytest.approx(weight, abs=5e-9)


def test_linear_decay_goes_by_equal_steps():
    """From initial, just before start, to final at saturate; up as well as down."""
    for initial, final in ((4.0, 1.0), (0.0, 2.0)):
        decay = LinearDecay(initial, final, start=3, saturate=9)
        values = [decay(epoch) for epoch in range(2, 10)]
        steps = [b - a for a, b in itertools.pairwise(values)]
        assert values[0] == initial and values[-1] == final
        assert steps == pytest.approx([(final - initial) / 7] * 7)


@pytest.mark.parametrize(("start", "saturate"), [(-1, 5), (5, 5), (6, 5)])
def test_epochs_in_order(start, saturate):
    text = f"LinearDecay: start and saturate .* got {start} and {saturate}"
    with pytest.raises(ValueError, match=text):
        LinearDecay(start=start, saturate=saturate)


@pytest.mark.parametrize(
    ("epoch", "weight"), [(0, 100), (12, 1.384), (13, 0.9689), (20, 0.0798), (49, 2.6e-6)]
)
def test_critical_period(epoch, weight):
    *hidden, last = CriticalPeriod()(epoch, 4)
    assert last == 1 and hidden == [pytest.approx(weight, rel=0.02 if epoch == 49 else 5e-4)] * 3


def test_hidden_layers_end_below_the_last():
    schedule = CriticalPeriod()
    assert [epoch for epoch in range(50) if schedule(epoch, 2)[0] > 1] == list(range(13))


def test_number_of_layers():
    assert CriticalPeriod()(0, 0) == [] and CriticalPeriod()(0, 1) == [1.0]
    assert CriticalPeriod(initial=8.0, decay=0.5, last=3.0)(2, 3) == [2.0, 2.0, 3.0]


def test_sigmoid_rampup():
    ramp = SigmoidRampup(80)
    assert ramp(0) == pytest.approx(0.0067379470) and ramp(40) == pytest.approx(0.2865047969)
    assert ramp(80) == ramp(300) == 1.0
    values = [ramp(epoch) for epoch in range(81)]
    assert values == sorted(values) and SigmoidRampup(1)(1) == 1.0


@pytest.mark.parametrize(
    ("length", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)]
)
def test_length_of_the_rampup(length, error):
    with pytest.raises(error, match="SigmoidRampup: length must be"):
        SigmoidRampup(length)
