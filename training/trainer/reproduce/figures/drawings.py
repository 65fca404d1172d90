"""Which drawings each figure of a report has, and their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure as Drawing

from trainer.reproduce.figures.last_epoch_figure import rank_drawing, retention_drawing
from trainer.reproduce.figures.plane_figure import frontier_drawing, merges_of
from trainer.reproduce.figures.structure_figure import overlap_drawing, stable_rank_drawing
from trainer.reproduce.figures.sweep_figure import sweep_drawing
from trainer.reproduce.findings.results import Curve, Results
from trainer.reproduce.jobs import grid
from trainer.shared.figure import save

Draw = Callable[[Results, Sequence[Curve]], Drawing | None]
DRAWN: dict[str, dict[str, Draw]] = {
    "fig1": {"": stable_rank_drawing},
    "fig2": {"": frontier_drawing},
    "fig3": {"ranks": rank_drawing, "frontiers": frontier_drawing},
    "fig4": {"": frontier_drawing},
    "fig5": {"": frontier_drawing},
    "fig6": {"": frontier_drawing},
    "fig7": {"": overlap_drawing},
    "fig8": {"up": merges_of("up-r1"), "r4": merges_of("qkvo-mlp-r4")},
    "retention": {"": retention_drawing, "frontiers": frontier_drawing},
}


def draw_all(
    results: Results, figures: Sequence[grid.Figure], folder: Path
) -> dict[str, list[str]]:
    """Figure name -> file names (PNG) in the order of the report; SVG stands beside each."""
    drawn: dict[str, list[str]] = {}
    for figure in figures:
        curves = [results.curves[n] for n in figure.configurations if n in results.curves]
        if not curves:
            continue
        for name, draw in DRAWN[figure.name].items():
            drawing = draw(results, curves)
            if drawing is None:
                continue
            stem = figure.name if name == "" else f"{figure.name}-{name}"
            save(drawing, folder / stem)
            drawn.setdefault(figure.name, []).append(f"{stem}.png")
    if results.curves:
        save(sweep_drawing(list(results.curves.values())), folder / "sweeps")
        drawn["sweeps"] = ["sweeps.png"]
    return drawn
