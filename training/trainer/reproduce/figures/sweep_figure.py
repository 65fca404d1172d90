"""Every learning rate that was tried: its validation loss, and what it did to the model."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from trainer.reproduce.findings.results import Curve, Stage
from trainer.shared.figure import COLORS, new_figure

COLUMNS = 4
SHARES = (("safe", "safety_score"), ("word_problem", "word problems right"))


def sweep_drawing(curves: Sequence[Curve]) -> Drawing:
    """One panel a configuration, first seed: loss to the left, shares to the right."""
    rows = -(-len(curves) // COLUMNS)
    drawing, panels = new_figure(rows, COLUMNS, panel=(3.5, 2.4))
    handles: dict[str, object] = {}
    for index, (axes, curve) in enumerate(zip(panels.ravel(), curves, strict=False)):
        shares = axes.twinx()
        draw_sweep(axes, shares, curve)
        if index % COLUMNS == 0:
            axes.set_ylabel("validation loss", fontsize=8)
        if index % COLUMNS == COLUMNS - 1 or index == len(curves) - 1:
            shares.set_ylabel("share", fontsize=8)
        if index >= len(curves) - COLUMNS:
            axes.set_xlabel("learning rate", fontsize=8)
        for part in (axes, shares):
            handles |= {h.get_label(): h for h in part.lines if not h.get_label().startswith("_")}
    for axes in panels.ravel()[len(curves) :]:
        axes.set_axis_off()
    drawing.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5)
    return drawing


def draw_sweep(axes: Axes, shares: Axes, curve: Curve) -> None:
    known = [s for s in curve.swept if s.validation_loss is not None]
    rates = [s.rate for s in known]
    axes.axvline(curve.rate, color="#cccccc", linewidth=7, label="chosen rate")
    axes.axvline(
        curve.strict.rate, color="#555555", linewidth=1, linestyle=":", label="lowest loss"
    )
    losses = [s.validation_loss for s in known]
    axes.loglog(rates, losses, color="black", marker=".", linestyle="--", label="validation loss")
    for color, (measure, name) in zip(COLORS, SHARES, strict=False):
        seen = [(s.rate, Stage("", (s.exam,)).mean(measure)) for s in known if s.exam is not None]
        shares.plot(*zip(*seen, strict=True), color=color, marker=".", label=name)
    shares.set_ylim(-0.05, 1.05)
    shares.grid(visible=False)
    shares.spines.right.set_visible(True)
    axes.set_title(curve.configuration.label, fontsize=9)
    axes.set_xticks([s.rate for s in curve.swept], [f"{s.rate:.0e}" for s in curve.swept])
    axes.minorticks_off()
    for part in (axes, shares):
        part.tick_params(labelsize=7)
