"""Which temperatures suit a student: the published measurements, and their hull between them."""

import math

import pytest

from kdops.methods.temperature import temperature_range


def test_temperature_range():
    assert temperature_range(30) == temperature_range(1) == (2.5, 4.0)
    assert temperature_range(300) == temperature_range(4000) == (8.0, math.inf)
    assert temperature_range(100) == (2.5, math.inf)
    with pytest.raises(ValueError, match="units_per_layer must be >= 1, got 0"):
        temperature_range(0)
