"""95 % intervals of shares: Wilson's for one, Newcombe's method 10 for a paired difference.

Both stay honest at 0 % and 100 %, where the textbook interval has no width. Prompts share words and
objects, so they are not independent draws: read the intervals as lower bounds of the uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """`count` of `n`, as a share with its 95 % interval."""

    count: int
    n: int
    value: float
    low: float
    high: float


def wilson(count: int, n: int) -> Share:
    if n == 0:
        return Share(0, 0, 0.0, 0.0, 1.0)
    p, z2 = count / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # The bounds at 0 and n are exact in theory; rounding must not move them.
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == n else centre + half
    return Share(count, n, p, low, high)


@dataclass(frozen=True)
class Difference:
    """Share of `after` minus share of `before` on the same prompts."""

    value: float
    low: float
    high: float


def paired_difference(before: Sequence[bool], after: Sequence[bool]) -> Difference:
    n = len(before)
    if n != len(after) or n == 0:
        raise ValueError(f"paired samples must be of one length above 0; got {n} and {len(after)}")
    both = sum(x and y for x, y in zip(before, after, strict=True))
    only_after = sum(y and not x for x, y in zip(before, after, strict=True))
    only_before = sum(x and not y for x, y in zip(before, after, strict=True))
    neither = n - both - only_after - only_before
    first, second = wilson(both + only_after, n), wilson(both + only_before, n)
    product = (
        (both + only_after)
        * (only_before + neither)
        * (both + only_before)
        * (only_after + neither)
    )
    # Correlation of the two outcomes, with Newcombe's continuity correction above zero.
    cross = both * neither - only_after * only_before
    corrected = max(cross - n / 2, 0.0) if cross > 0 else float(cross)
    phi = corrected / math.sqrt(product) if product else 0.0
    value = first.value - second.value
    below = (first.value - first.low, second.high - second.value)
    above = (first.high - first.value, second.value - second.low)
    spread = [math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b)) for a, b in (below, above)]
    return Difference(value, value - spread[0], value + spread[1])


# --- in words ----------------------------------------------------------------------------------


class Bounded(Protocol):
    value: float
    low: float
    high: float


def percent(share: Bounded, end: str = "%") -> str:
    """`end` follows the bounds: "" in a table so wide that a sign a number is too many."""
    low, high = (f"{100 * bound:.1f}{end}" for bound in (share.low, share.high))
    return f"{share.value:.1%} [{low}, {high}]"


def points(difference: Bounded, unit: str = "") -> str:
    """Of a hundred; `unit` where nothing beside it says so."""
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.1f}{unit} [{low:+.1f}, {high:+.1f}]"
