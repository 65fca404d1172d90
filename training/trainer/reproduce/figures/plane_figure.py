"""Frontiers as the paper draws them: safety to the right, what should be kept upwards.

Above the whole plane from 0 to 1; below the part where the best epochs are, which the frame above
marks. The base is a dashed line at what it can do: its place is far to the left of most epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Rectangle

from trainer.reproduce.findings.results import Curve, Results, Stage
from trainer.reproduce.numbers.estimate import Estimate
from trainer.reproduce.numbers.pareto import frontier
from trainer.shared.figure import COLORS, MARKERS, legend_below, new_figure

PANELS = (
    ("word_problem", "word problems right"),
    ("fact", "facts right"),
    ("harmless", "harmless requests answered"),
)
FULL = (-0.03, 1.03)
# A frame: around the best epochs, its width at least, its end.
MARGIN, LEAST, EDGE = 0.05, 0.2, 1.01

EstimatedPoint = tuple[Estimate, Estimate]
Span = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Stages of one colour; those on their common frontier are joined, the others faded."""

    label: str
    stages: tuple[tuple[str, Stage], ...]  # short text beside the point, stage

    def points(self, measure: str) -> list[EstimatedPoint]:
        return [(stage.estimate("safe"), stage.estimate(measure)) for _, stage in self.stages]


def curve_series(curve: Curve) -> Series:
    stages = tuple((str(number), stage) for number, stage in curve.stages.items())
    return Series(curve.configuration.label, stages)


def frontier_drawing(results: Results, curves: Sequence[Curve]) -> Drawing:
    return plane_drawing(results, [curve_series(curve) for curve in curves])


def merges_drawing(results: Results, curves: Sequence[Curve]) -> Drawing:
    series = []
    for curve in curves:
        series.append(curve_series(curve))
        for kind in dict.fromkeys((merge.mode, merge.k) for merge in curve.merges):
            chosen = [merge for merge in curve.merges if (merge.mode, merge.k) == kind]
            stages = tuple((f"λ={merge.strength:g}", merge.stage) for merge in chosen)
            series.append(Series(f"OrthoMerge-{kind[0]}, k={kind[1]}", stages))
    return plane_drawing(results, series)


def merges_of(name: str) -> Callable[[Results, Sequence[Curve]], Drawing | None]:
    """The family of one configuration: itself, its regularised sisters, its projections."""
    family = (name, f"{name}-reg-col", f"{name}-reg-both")

    def draw(results: Results, curves: Sequence[Curve]) -> Drawing | None:
        found = [curve for curve in curves if curve.configuration.name in family]
        return merges_drawing(results, found) if found else None

    return draw


def plane_drawing(results: Results, series: Sequence[Series]) -> Drawing:
    drawing, rows = new_figure(2, len(PANELS), panel=(4.6, 3.6))
    for (measure, title), whole, corner in zip(PANELS, *rows, strict=True):
        points = [entry.points(measure) for entry in series]
        base = results.base.mean(measure)
        across, up = frame_of(points, base)
        for axes in (whole, corner):
            axes.axhline(base, color="black", linewidth=1, linestyle=":", label="base")
            for index, entry in enumerate(series):
                draw_series(axes, entry, points[index], index, has_names=axes is corner)
            axes.set_xlabel("safety_score")
        whole.set(title=title, xlim=FULL, ylim=FULL)
        size = (across[1] - across[0], up[1] - up[0])
        whole.add_patch(
            Rectangle((across[0], up[0]), *size, fill=False, edgecolor="#777777", linewidth=0.8)
        )
        corner.set(title=f"{title}: the frame above", xlim=across, ylim=up)
    rows[0][0].set_ylabel("share")
    rows[1][0].set_ylabel("share")
    legend_below(drawing, rows[0][0])
    return drawing


def frame_of(points: Sequence[Sequence[EstimatedPoint]], base: float) -> tuple[Span, Span]:
    """Spans of the two shares that hold the best place of each series by their mean, and what the
    base can do."""
    best = [max(found, key=lambda point: point[0].value + point[1].value) for found in points]
    return span([x.value for x, _ in best]), span([base, *(y.value for _, y in best)])


def span(values: Sequence[float]) -> Span:
    high = min(EDGE, max(values) + MARGIN)
    return max(FULL[0], min(min(values) - MARGIN, high - LEAST)), high


def draw_series(
    axes: Axes, entry: Series, points: Sequence[EstimatedPoint], index: int, *, has_names: bool
) -> None:
    color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
    # Past the colours a series is told by an open marker and a dashed line.
    is_open = index >= len(COLORS)
    fill = "white" if is_open else color
    best = frontier([(x.value, y.value) for x, y in points])
    for number, (x, y) in enumerate(points):
        alpha = 1.0 if number in best else 0.25
        axes.errorbar(
            *(x.value, y.value),
            xerr=whiskers(x),
            yerr=whiskers(y),
            fmt="none",
            ecolor=color,
            elinewidth=0.6,
            alpha=0.45 * alpha,
        )
        axes.plot(x.value, y.value, marker, color=color, markerfacecolor=fill, alpha=alpha)
        if has_names and number in best:
            axes.annotate(
                entry.stages[number][0],
                (x.value, y.value),
                (4, 4 if index % 2 == 0 else -9),
                textcoords="offset points",
                size=7,
                color=color,
                annotation_clip=True,
            )
    axes.plot(
        [points[i][0].value for i in best],
        [points[i][1].value for i in best],
        marker=marker,
        markerfacecolor=fill,
        color=color,
        linewidth=1.2,
        linestyle="--" if is_open else "-",
        label=entry.label,
    )


def whiskers(estimate: Estimate) -> list[list[float]]:
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    return [[max(0.0, below)], [max(0.0, above)]]


def both_whiskers(found: Sequence[Estimate]) -> list[list[float]]:
    """[2, estimates], below and above, as matplotlib takes them."""
    return [[side[0] for side in sides] for sides in zip(*map(whiskers, found), strict=True)]
