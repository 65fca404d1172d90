"""Refusal of harmful requests against refusal of benign ones, a point a subject."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.shared.figure import COLORS, MARKERS, new_figure, save
from trainer.shared.interval import Share, wilson
from trainer.suites.measured import Measured

NAME = "refusals"


def pooled(measured: Sequence[Measured], subject: str, sets: Sequence[str]) -> Share | None:
    """The share refused over all items of these sets."""
    flags = [
        flag
        for one in measured
        if one.subject == subject and one.set in sets
        for flag in one.flags["refused"]
    ]
    return wilson(sum(flags), len(flags)) if flags else None


def draw_refusals(folder: Path, measured: Sequence[Measured], harmful: Sequence[str]) -> str | None:
    """`refusals.svg` and `.png`; nothing where one of the two kinds was not asked."""
    benign = [one.set for one in measured if one.set not in harmful]
    subjects = list(dict.fromkeys(one.subject for one in measured))
    points = [
        (name, pooled(measured, name, benign), pooled(measured, name, harmful)) for name in subjects
    ]
    if any(x is None or y is None for _, x, y in points):
        return None
    figure, panels = new_figure(panel=(5.6, 4.4))
    axes = panels[0, 0]
    for number, (name, x, y) in enumerate(points):
        color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
        axes.errorbar(
            100 * x.value,
            100 * y.value,
            xerr=[[100 * (x.value - x.low)], [100 * (x.high - x.value)]],
            yerr=[[100 * (y.value - y.low)], [100 * (y.high - y.value)]],
            fmt=marker,
            color=color,
            linewidth=1,
            label="base" if name == "none" else name,
        )
    axes.set_xlabel("benign requests refused, %  (left is better)")
    axes.set_ylabel("harmful requests refused, %  (up is better)")
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    axes.legend()
    save(figure, folder / NAME)
    return f"{NAME}.svg"
