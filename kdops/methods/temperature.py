"""Which temperatures suit a student of a given width."""

import math

from .. import _checks

NARROW, WIDE = (2.5, 4.0), (8.0, math.inf)


def temperature_range(units_per_layer: int) -> tuple[float, float]:
    """The temperatures that worked for a student with so many units in each hidden layer.

    Two measurements, both of nets with two hidden layers on MNIST: at 30 units 2.5 to 4 was
    better than anything higher or lower, at 300 and more all above 8 were alike. They are taken as
    bounds below and above them; between them nothing was measured, and the range is from the
    lower end of the first to the upper of the second. Where to begin a search, not a law.

    Args:
        units_per_layer: >= 1.
    Returns:
        (low, high): (2.5, 4) up to 30 units, (8, inf) from 300, (2.5, inf) between.
    Raises:
        TypeError: for another type. ValueError: below 1.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section 3.
    """
    _checks.integer("temperature_range", "units_per_layer", units_per_layer, 1)
    if units_per_layer <= 30:
        return NARROW
    return WIDE if units_per_layer >= 300 else (NARROW[0], WIDE[1])
