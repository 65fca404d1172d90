"""One look for all figures: a new figure in our style, and saving it as PNG and SVG.

Drawn without a display (Agg). The same data gives the same SVG bytes: no date, a fixed salt for
ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart by colour-blind readers too; yellow is too pale for lines.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DPI = 160
PANEL_INCHES = (4.8, 3.4)  # width, height of one panel

STYLE: dict[str, object] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=COLORS),
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "dutyfree",
    "svg.fonttype": "path",  # looks the same where the font is not installed
}

matplotlib.rcParams.update(STYLE)


def new_figure(
    rows: int = 1,
    columns: int = 1,
    *,
    panel: tuple[float, float] = PANEL_INCHES,
    title: str | None = None,
    share_x: bool = False,
    share_y: bool = False,
) -> tuple[Figure, np.ndarray]:
    """A figure of `rows` x `columns` panels; the axes come as an array [rows, columns]."""
    figure, axes = pyplot.subplots(
        rows,
        columns,
        figsize=(panel[0] * columns, panel[1] * rows),
        sharex=share_x,
        sharey=share_y,
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)  # inches
    if title:
        figure.suptitle(title, fontsize=11)
    return figure, axes


def bars(
    axis: Axes, groups: Mapping[str, Mapping[str, float | None]], categories: tuple[str, ...]
) -> None:
    """Bars side by side, one colour a group; a category that a group lacks stays empty."""
    width = 0.8 / max(1, len(groups))
    for i, (name, values) in enumerate(groups.items()):
        found = [(j, values[c]) for j, c in enumerate(categories) if values.get(c) is not None]
        left = [j + (i - (len(groups) - 1) / 2) * width for j, _ in found]
        color = COLORS[i % len(COLORS)]
        axis.bar(left, [value for _, value in found], width * 0.92, label=name, color=color)
    axis.set_xticks(range(len(categories)), categories)
    axis.grid(axis="x", visible=False)


def legend_below(figure: Figure, axis: Axes) -> None:
    """One legend for all panels, under them, from the entries of `axis`."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 7),
                      frameon=False, fontsize=8)  # fmt: skip


def save(figure: Figure, path_without_suffix: Path) -> tuple[Path, Path]:
    """Writes PNG and SVG and lets the figure go."""
    path_without_suffix.parent.mkdir(parents=True, exist_ok=True)
    # Not with_suffix: a name such as "rank-0.5" would lose its end.
    png, svg = (
        path_without_suffix.with_name(path_without_suffix.name + s) for s in (".png", ".svg")
    )
    figure.savefig(png, dpi=DPI, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return png, svg
