"""What the last epoch of each configuration can do, along the one value that tells them apart."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from trainer.reproduce.figures.plane_figure import both_whiskers
from trainer.reproduce.findings.results import Curve, Results, Stage
from trainer.shared.figure import COLORS, MARKERS, legend_below, new_figure

LABELS = {
    "safe": "safety_score",
    "word_problem": "word problems right",
    "fact": "facts right",
    "harmless": "harmless requests answered",
    "over_refusal": "harmless requests refused",
}
APART = 0.07  # of a step: whiskers stand side by side


def along(
    axes: Axes, names: Sequence[str], stages: Sequence[Stage], measures: Sequence[str]
) -> None:
    for index, measure in enumerate(measures):
        found = [stage.estimate(measure) for stage in stages]
        aside = APART * (index - (len(measures) - 1) / 2)
        look = list(LABELS).index(measure)
        axes.errorbar(
            [position + aside for position in range(len(names))],
            [e.value for e in found],
            yerr=both_whiskers(found),
            marker=MARKERS[look],
            capsize=2,
            elinewidth=0.8,
            color=COLORS[look],
            label=LABELS[measure],
        )
    axes.set_xticks(range(len(names)), names)
    axes.set(xlim=(-0.4, len(names) - 0.6), ylim=(-0.03, 1.03), ylabel="share")


def rank_drawing(results: Results, curves: Sequence[Curve]) -> Drawing:
    drawing, ((axes,),) = new_figure(panel=(6.4, 3.8))
    names = [
        "full" if c.configuration.mode == "full" else str(c.configuration.rank) for c in curves
    ]
    measures = ("safe", "word_problem", "fact", "harmless")
    along(axes, names, [curve.last for curve in curves], measures)
    axes.set(xlabel="rank", title="last epoch")
    legend_below(drawing, axes)
    return drawing


def retention_drawing(results: Results, curves: Sequence[Curve]) -> Drawing:
    drawing, ((axes,),) = new_figure(panel=(6.4, 3.8))
    names = [f"{curve.configuration.retain:g}" for curve in curves]
    measures = ("safe", "word_problem", "fact", "over_refusal")
    along(axes, names, [curve.last for curve in curves], measures)
    axes.set(xlabel="the base's own answers per refusal", title="last epoch")
    legend_below(drawing, axes)
    return drawing
