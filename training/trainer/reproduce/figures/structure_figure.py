"""The shape of an update: its stable rank layer by layer, its overlap with the weights."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from matplotlib.figure import Figure as Drawing

from trainer.reproduce.figures.plane_figure import both_whiskers
from trainer.reproduce.findings.results import Curve, Results
from trainer.reproduce.findings.structure import METRICS, module_types, overlap_by_seed
from trainer.reproduce.numbers.estimate import over_seeds
from trainer.shared.figure import COLORS, MARKERS, legend_below, new_figure

FORMULAS = {
    "column": "‖WᵀΔW‖ / (‖W‖ ‖ΔW‖)",
    "column share": "‖U₁₆U₁₆ᵀΔW‖ / ‖ΔW‖",
    "row": "‖WΔWᵀ‖ / (‖W‖ ‖ΔW‖)",
    "row share": "‖V₁₆V₁₆ᵀΔWᵀ‖ / ‖ΔW‖",
}


def stable_rank_drawing(results: Results, curves: Sequence[Curve]) -> Drawing:
    """Means over the seeds; a scale of its own for each configuration."""
    drawing, (panels,) = new_figure(1, len(curves))
    for axes, curve in zip(panels, curves, strict=True):
        looks = zip(COLORS, MARKERS, module_types(curve), strict=False)
        for color, marker, module in looks:
            layers: dict[int, list[float]] = {}
            for shape in (s for run in curve.structure for s in run):
                if shape.module.endswith(module):
                    layers.setdefault(int(shape.module.split(".")[2]), []).append(shape.stable_rank)
            xs = sorted(layers)
            axes.plot(xs, [fmean(layers[x]) for x in xs], marker=marker, color=color, label=module)
        if curve.configuration.mode == "lora":
            bound = curve.configuration.rank
            axes.axhline(bound, color="black", linewidth=0.8, linestyle=":")
            axes.annotate(f"at most its rank, {bound}", (1, bound), (0, 3), ha="right",
                          xycoords=("axes fraction", "data"), textcoords="offset points",
                          size=7)  # fmt: skip
        axes.set(title=curve.configuration.label, xlabel="layer", ylabel="stable rank of ΔW")
        axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
    legend_below(drawing, panels[0])
    return drawing


def overlap_drawing(results: Results, curves: Sequence[Curve]) -> Drawing:
    drawing, (panels,) = new_figure(1, len(METRICS), panel=(3.6, 3.4))
    width = 0.8 / len(curves)
    for index, (axes, metric) in enumerate(zip(panels, METRICS, strict=True)):
        for offset, curve in enumerate(curves):
            modules = module_types(curve)
            found = [over_seeds(overlap_by_seed(curve, module, index)) for module in modules]
            aside = (offset - (len(curves) - 1) / 2) * width
            axes.bar(
                [position + aside for position in range(len(modules))],
                [e.value for e in found],
                0.92 * width,
                yerr=both_whiskers(found),
                error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
                color=COLORS[offset],
                label=curve.configuration.label,
            )
            names = [module.removesuffix("_proj") for module in modules]
            axes.set_xticks(range(len(modules)), names, fontsize=8)
        axes.grid(axis="x", visible=False)
        axes.set_title(f"{metric}\n{FORMULAS[metric]}", fontsize=9)
        axes.set_ylim(bottom=0)
    legend_below(drawing, panels[0])
    return drawing
