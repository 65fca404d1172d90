"""Pareto frontiers in the plane of two shares, both better when larger."""

from __future__ import annotations

from collections.abc import Sequence

PlanePoint = tuple[float, float]


def frontier(points: Sequence[PlanePoint]) -> list[int]:
    """Indices of the points that none beats: at least as good in both, better in one. Of equal
    points the first stays. From low to high in the first share."""
    kept: list[int] = []
    best = -1.0
    # Best in the first share first; of those the best in the second, the earliest on a tie.
    for index in sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1], i)):
        if points[index][1] > best:
            best = points[index][1]
            kept.append(index)
    return kept[::-1]


def area(points: Sequence[PlanePoint]) -> float:
    """Share of the unit square that the points dominate: one number for a whole frontier."""
    total, left = 0.0, 0.0
    for index in frontier(points):
        x, y = points[index]
        total += (x - left) * y
        left = x
    return total
