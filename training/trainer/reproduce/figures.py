"""The figures of a report, drawn from results: safety to the right, what should be kept upwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from trainer.figure import COLORS, new_figure, save
from trainer.reproduce import grid
from trainer.reproduce.estimate import Estimate, over_seeds
from trainer.reproduce.pareto import frontier
from trainer.reproduce.results import Curve, Results, Stage
from trainer.reproduce.structure import METRICS, module_types, overlap_by_seed

PANELS = (
    ("word_problem", "word problems right"),
    ("fact", "facts right"),
    ("harmless", "harmless requests answered"),
)


@dataclass(frozen=True)
class Series:
    """Stages of one colour; those on their common frontier are joined, the others faded."""

    label: str
    stages: tuple[tuple[str, Stage], ...]  # short text beside the point, stage


def draw_all(
    results: Results, figures: Sequence[grid.Figure], folder: Path
) -> dict[str, list[str]]:
    """Figure name -> file names (PNG) in the order of the report; SVG stands beside each."""
    drawn: dict[str, list[str]] = {}
    for figure in figures:
        curves = [results.curves[n] for n in figure.configurations if n in results.curves]
        if not curves:
            continue
        drawings = {name: draw(results, curves) for name, draw in DRAWN[figure.name].items()}
        for name, drawing in drawings.items():
            stem = figure.name if name == "" else f"{figure.name}-{name}"
            save(drawing, folder / stem)
            drawn.setdefault(figure.name, []).append(f"{stem}.png")
    if results.curves:
        save(sweep_drawing(list(results.curves.values())), folder / "sweeps")
        drawn["sweeps"] = ["sweeps.png"]
    return drawn


# --- frontiers ---------------------------------------------------------------------------------


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
            label = f"{curve.configuration.label}, OrthoMerge-{kind[0]} k={kind[1]}"
            stages = tuple((f"{merge.strength:g}", merge.stage) for merge in chosen)
            series.append(Series(label, stages))
    return plane_drawing(results, series)


def merges_of(name: str) -> Callable[[Results, Sequence[Curve]], Drawing]:
    """The family of one configuration: itself, its regularised sisters, its projections."""
    family = (name, f"{name}-reg-col", f"{name}-reg-both")
    return lambda results, curves: merges_drawing(
        results, [curve for curve in curves if curve.configuration.name in family]
    )


def plane_drawing(results: Results, series: Sequence[Series]) -> Drawing:
    drawing, ((*panels,),) = new_figure(1, len(PANELS))
    for axes, (measure, title) in zip(panels, PANELS, strict=True):
        base = (results.base.estimate("safe"), results.base.estimate(measure))
        point(axes, base, "black", marker="*", size=11, label="base")
        for index, entry in enumerate(series):
            draw_series(axes, entry, measure, COLORS[index % len(COLORS)], index >= len(COLORS))
        axes.set(title=title, xlabel="safety_score", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    panels[0].set_ylabel("share")
    handles, labels = panels[0].get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=4)
    return drawing


def draw_series(axes: Axes, entry: Series, measure: str, color: str, is_hollow: bool) -> None:
    places = [(s.estimate("safe"), s.estimate(measure)) for _, s in entry.stages]
    best = frontier([(x.value, y.value) for x, y in places])
    marker = "s" if is_hollow else "o"
    for index, place in enumerate(places):
        on = index in best
        label = entry.label if index == best[0] else None
        point(axes, place, color, marker=marker, alpha=1.0 if on else 0.25, label=label)
        if on:
            at = (place[0].value, place[1].value)
            axes.annotate(entry.stages[index][0], at, (3, 3), textcoords="offset points", size=6)
    xs, ys = [places[i][0].value for i in best], [places[i][1].value for i in best]
    axes.plot(xs, ys, color=color, linewidth=1.2, linestyle="--" if is_hollow else "-")


def point(
    axes: Axes,
    place: tuple[Estimate, Estimate],
    color: str,
    *,
    marker: str = "o",
    size: float = 5,
    alpha: float = 1.0,
    label: str | None = None,
) -> None:
    x, y = place
    axes.errorbar(
        x.value,
        y.value,
        xerr=whiskers(x),
        yerr=whiskers(y),
        fmt=marker,
        color=color,
        markersize=size,
        alpha=alpha,
        elinewidth=0.5,
        label=label,
    )


def whiskers(estimate: Estimate) -> list[list[float]]:
    below, above = estimate.value - estimate.low, estimate.high - estimate.value
    return [[max(0.0, below)], [max(0.0, above)]]


# --- along one value ---------------------------------------------------------------------------


def along(
    axes: Axes, names: Sequence[str], stages: Sequence[Stage], measures: Sequence[str]
) -> None:
    for index, measure in enumerate(measures):
        found = [stage.estimate(measure) for stage in stages]
        axes.errorbar(
            range(len(names)),
            [e.value for e in found],
            yerr=[[w[0] for w in side] for side in zip(*map(whiskers, found), strict=True)],
            marker="o",
            capsize=3,
            color=COLORS[index],
            label=LABELS[measure],
        )
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(-0.03, 1.03)
    axes.legend()


LABELS = {
    "word_problem": "word problems right",
    "fact": "facts right",
    "safe": "safety_score",
    "harmless": "harmless requests answered",
    "over_refusal": "harmless requests refused",
}


def rank_drawing(results: Results, curves: Sequence[Curve]) -> Drawing:
    drawing, ((left, right),) = new_figure(1, 2)
    names = [
        "full" if c.configuration.mode == "full" else str(c.configuration.rank) for c in curves
    ]
    last = [curve.last for curve in curves]
    along(left, names, last, ("word_problem", "fact", "harmless"))
    along(right, names, last, ("safe",))
    left.set(xlabel="rank", title="what should be kept, last epoch")
    right.set(xlabel="rank", title="safety, last epoch")
    return drawing


def retention_drawing(results: Results, curves: Sequence[Curve]) -> Drawing:
    drawing, ((axes,),) = new_figure()
    names = [f"{curve.configuration.retain:g}" for curve in curves]
    measures = ("safe", "over_refusal", "word_problem", "fact")
    along(axes, names, [curve.last for curve in curves], measures)
    axes.set(xlabel="the base's own answers per refusal", title="last epoch")
    return drawing


# --- structure ---------------------------------------------------------------------------------


def rank_of_update_drawing(results: Results, curves: Sequence[Curve]) -> Drawing:
    drawing, (panels,) = new_figure(1, len(curves))
    for axes, curve in zip(panels, curves, strict=True):
        for color, module in zip(COLORS, module_types(curve), strict=False):
            layers: dict[int, list[float]] = {}
            for shape in (s for run in curve.structure for s in run):
                if shape.module.endswith(module):
                    layers.setdefault(int(shape.module.split(".")[2]), []).append(shape.stable_rank)
            xs = sorted(layers)
            axes.plot(xs, [fmean(layers[x]) for x in xs], marker="o", color=color, label=module)
        axes.set(title=curve.configuration.label, xlabel="layer", ylabel="stable rank of ΔW")
        axes.set_ylim(bottom=0)
    panels[-1].legend()
    return drawing


def overlap_drawing(results: Results, curves: Sequence[Curve]) -> Drawing:
    drawing, (panels,) = new_figure(1, len(METRICS), panel=(3.6, 3.4))
    width = 0.8 / len(curves)
    for index, (axes, metric) in enumerate(zip(panels, METRICS, strict=True)):
        for offset, curve in enumerate(curves):
            modules = module_types(curve)
            found = [over_seeds(overlap_by_seed(curve, module, index)) for module in modules]
            axes.bar(
                [place + offset * width for place in range(len(modules))],
                [e.value for e in found],
                width,
                yerr=[[w[0] for w in side] for side in zip(*map(whiskers, found), strict=True)],
                color=COLORS[offset],
                label=curve.configuration.label,
            )
            names = [module.removesuffix("_proj") for module in modules]
            axes.set_xticks([place + 0.2 for place in range(len(modules))], names, fontsize=8)
        axes.set_title(metric, fontsize=10)
    panels[0].legend(fontsize=7)
    return drawing


def sweep_drawing(curves: Sequence[Curve]) -> Drawing:
    """Per configuration: validation loss over the rates, and what the rate did, first seed."""
    columns = 4
    rows = -(-len(curves) // columns)
    drawing, panels = new_figure(rows, columns, panel=(3.6, 2.4))
    grid_of_axes = panels.ravel()
    for axes, curve in zip(grid_of_axes, curves, strict=False):
        known = [s for s in curve.swept if s.validation_loss is not None]
        rates = [s.rate for s in known]
        axes.loglog(rates, [s.validation_loss for s in known], color="black", marker=".")
        axes.axvline(curve.rate, color="#999999", linewidth=6, alpha=0.3)
        axes.set_title(curve.configuration.label, fontsize=8)
        shares = axes.twinx()
        for color, (measure, name) in zip(
            COLORS, (("safe", "safety"), ("word_problem", "word problems")), strict=False
        ):
            seen = [
                (s.rate, Stage("", (s.exam,)).mean(measure)) for s in known if s.exam is not None
            ]
            shares.plot(*zip(*seen, strict=True), color=color, marker=".", label=name)
        shares.set_ylim(-0.05, 1.05)
        axes.tick_params(labelsize=6)
        shares.tick_params(labelsize=6)
        if curve is curves[0]:
            shares.legend(fontsize=6)
    for axes in grid_of_axes[len(curves) :]:
        axes.set_axis_off()
    return drawing


Draw = Callable[[Results, Sequence[Curve]], Drawing]
DRAWN: dict[str, dict[str, Draw]] = {
    "fig1": {"": rank_of_update_drawing},
    "fig2": {"": frontier_drawing},
    "fig3": {"ranks": rank_drawing, "frontiers": frontier_drawing},
    "fig4": {"": frontier_drawing},
    "fig5": {"": frontier_drawing},
    "fig6": {"": frontier_drawing},
    "fig7": {"": overlap_drawing},
    "fig8": {"up": merges_of("up-r1"), "r4": merges_of("qkvo-mlp-r4")},
    "retention": {"": retention_drawing, "frontiers": frontier_drawing},
}
