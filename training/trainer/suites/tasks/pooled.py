"""One number of several sets: the mean over sets, so that a set counts once whatever its size.

Its interval is made of the sets' own (Zou and Donner's method of variance estimates recovery). The
distances of their bounds are added as squares. So it keeps a width where two subjects answer alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainer.shared.interval import Bounded, Difference


def mean_of_sets(values: Sequence[Bounded]) -> Difference:
    """Of shares or of differences, one a set; the sets' items are independent draws."""
    if not values:
        raise ValueError("a mean over sets needs a set")
    n = len(values)
    centre = sum(value.value for value in values) / n
    below = math.sqrt(sum((value.value - value.low) ** 2 for value in values)) / n
    above = math.sqrt(sum((value.high - value.value) ** 2 for value in values)) / n
    return Difference(centre, centre - below, centre + above)
