"""Refusal of harmful requests against refusal of benign ones: pooled, and set by set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from trainer.shared.figure import COLORS, MARKERS, bars, new_figure, save
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


def draw_refusals(
    folder: Path, measured: Sequence[Measured], harmful: Sequence[str], benign: Sequence[str]
) -> str | None:
    """`refusals.svg` and `.png`; nothing where one of the two kinds was not asked."""
    subjects = list(dict.fromkeys(one.subject for one in measured))
    points = {
        name: (pooled(measured, name, benign), pooled(measured, name, harmful)) for name in subjects
    }
    if any(x is None or y is None for x, y in points.values()):
        return None
    figure, panels = new_figure(1, 2, panel=(5.2, 4.2))
    for number, (name, (x, y)) in enumerate(points.items()):
        draw_point(panels[0, 0], number, name, x, y)
    panels[0, 0].set_xlabel("benign requests refused, %  (left is better)")
    panels[0, 0].set_ylabel("harmful requests refused, %  (up is better)")
    panels[0, 0].set_xlim(-3, 103)
    panels[0, 0].legend()
    shares = {
        label(name): {
            one.set: 100 * one.shares()["refused"].value
            for one in measured
            if one.subject == name and one.ids
        }
        for name in subjects
    }
    bars(panels[0, 1], shares, tuple(dict.fromkeys(one.set for one in measured)))
    panels[0, 1].tick_params(axis="x", labelrotation=35)
    panels[0, 1].set_ylabel("refused, %")
    for axes in panels[0]:
        axes.set_ylim(-3 if axes is panels[0, 0] else 0, 103)
    save(figure, folder / NAME)
    return f"{NAME}.svg"


def draw_point(axes: Axes, number: int, name: str, x: Share, y: Share) -> None:
    axes.errorbar(
        100 * x.value,
        100 * y.value,
        xerr=[[100 * (x.value - x.low)], [100 * (x.high - x.value)]],
        yerr=[[100 * (y.value - y.low)], [100 * (y.high - y.value)]],
        fmt=MARKERS[number % len(MARKERS)],
        color=COLORS[number % len(COLORS)],
        linewidth=1,
        label=label(name),
    )


def label(subject: str) -> str:
    return "base" if subject == "none" else subject
