"""Pareto frontiers in the plane of two shares, both better when larger."""

from __future__ import annotations

from collections.abc import Sequence

Place = tuple[float, float]


def frontier(places: Sequence[Place]) -> list[int]:
    """Indices of the places that none beats: at least as good in both, better in one. Of equal
    places the first stays. From low to high in the first share."""
    kept: list[int] = []
    best = -1.0
    # Best in the first share first; of those the best in the second, the earliest on a tie.
    for index in sorted(range(len(places)), key=lambda i: (-places[i][0], -places[i][1], i)):
        if places[index][1] > best:
            best = places[index][1]
            kept.append(index)
    return kept[::-1]


def area(places: Sequence[Place]) -> float:
    """Share of the unit square that the places dominate: one number for a whole frontier."""
    total, left = 0.0, 0.0
    for index in frontier(places):
        x, y = places[index]
        total += (x - left) * y
        left = x
    return total
