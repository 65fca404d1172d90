"""What `analyze` writes: JSON, a Markdown page, and the paper's Figures 1 and 7."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.shared.figure import COLORS, MARKERS, bars, legend_below, new_figure, save
from trainer.shared.io import write_json
from trainer.shared.markdown import command_block, markdown_table, wrapped
from trainer.shared.recipe import MODULES
from trainer.weights.overlap import METRICS, Row, chance

RANK_TITLE = r"Stable rank of the update, $\|\Delta\|_F^2\;/\;\|\Delta\|_2^2$"
PANEL_NAMES = {
    "column": "(a) column space",
    "column_share": "(b) column space",
    "row": "(c) row space",
    "row_share": "(d) row space",
}


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def named(rows: Sequence[Row], attribute: str) -> list[str]:
    """Subjects or modules in the order of the paper's figures, those that occur."""
    found = dict.fromkeys(getattr(row, attribute) for row in rows)
    if attribute == "module":
        return [name for name in MODULES if name in found]
    return list(found)


def module_means(rows: Sequence[Row], metric: str) -> dict[str, dict[str, float | None]]:
    """subject → module → mean over its layers."""
    return {
        subject: {
            module: mean(
                [
                    getattr(row.overlap, metric)
                    for row in rows
                    if (row.subject, row.module) == (subject, module)
                ]
            )
            for module in named(rows, "module")
        }
        for subject in named(rows, "subject")
    }


def overlap_table(rows: Sequence[Row], k: int) -> str:
    subjects, modules = named(rows, "subject"), named(rows, "module")
    cells = [["metric", "module", *subjects, "random"]]
    for metric, label in METRICS.items():
        means = module_means(rows, metric)
        for module in modules:
            values = [means[subject][module] for subject in subjects]
            shown = ["" if value is None else f"{value:.4f}" for value in values]
            cells.append([label, module, *shown, f"{random_level(rows, metric, module, k):.4f}"])
    return markdown_table(cells)


def random_level(rows: Sequence[Row], metric: str, module: str, k: int) -> float:
    row = next(row for row in rows if row.module == module)
    return getattr(chance(row.rows, row.columns, min(k, row.rows, row.columns)), metric)


def rank_table(rows: Sequence[Row]) -> str:
    modules = named(rows, "module")
    cells = [["subject", "layer", *modules]]
    for subject in named(rows, "subject"):
        values = {(r.layer, r.module): r.stable_rank for r in rows if r.subject == subject}
        for layer in sorted({layer for layer, _ in values}):
            shown = [f"{values[layer, m]:.2f}" if (layer, m) in values else "" for m in modules]
            cells.append([subject, str(layer), *shown])
    return markdown_table(cells)


def draw_stable_rank(rows: Sequence[Row], path: Path) -> None:
    """Figure 1: colours are module types, x is the layer; one panel a subject."""
    subjects, modules = named(rows, "subject"), named(rows, "module")
    figure, axes = new_figure(1, len(subjects), title=RANK_TITLE)
    for axis, subject in zip(axes[0], subjects, strict=True):
        for i, module in enumerate(modules):
            chosen = [row for row in rows if (row.subject, row.module) == (subject, module)]
            points = sorted((row.layer, row.stable_rank) for row in chosen)
            axis.plot(
                [layer for layer, _ in points],
                [value for _, value in points],
                color=COLORS[i % len(COLORS)],
                marker=MARKERS[i % len(MARKERS)],
                label=module,
            )
        axis.set_title(subject)
        axis.set_xlabel("layer")
        axis.set_ylim(0, 1.1 * max(row.stable_rank for row in rows if row.subject == subject))
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0][0].set_ylabel("stable rank")
    legend_below(figure, axes[0][0])
    save(figure, path)


def draw_overlap(rows: Sequence[Row], k: int, path: Path) -> None:
    """Figure 7: a panel a metric, a group of bars a module type, a bar a subject."""
    modules = tuple(named(rows, "module"))
    figure, axes = new_figure(2, 2, title="Overlap with the base's weights, mean over layers")
    for axis, (metric, label) in zip(axes.flat, METRICS.items(), strict=True):
        bars(axis, module_means(rows, metric), modules)
        for i, module in enumerate(modules):
            level = random_level(rows, metric, module, k)
            line = axis.hlines(level, i - 0.45, i + 0.45, color="#333333", linestyle=(0, (3, 2)))
            if i == 0:
                line.set_label("random directions")
        axis.set_title(f"{PANEL_NAMES[metric]}: {label}")
        axis.set_xticks(range(len(modules)), [module.removesuffix("_proj") for module in modules])
        axis.set_xlim(-0.6, len(modules) - 0.4)
    legend_below(figure, axes[0][0])
    save(figure, path)


def write_report(
    folder: Path,
    result_name: str,
    about: dict[str, Any],
    rows: Sequence[Row],
    records: Sequence[dict[str, Any]],
) -> str:
    """Writes all of it into `folder`; returns the page."""
    k = about["k"]
    write_json(folder / result_name, about | {"weights": list(records)})
    page = wrapped(f"""# Updates of {about["base_model"]}

{command_block(about["command"])}

## Overlap with the base's weights

Mean over the layers that a subject changes; U and V hold the {k} largest singular vectors of the
weight. `random`: root mean square for an update of random directions, the level of no preference.

{overlap_table(rows, k)}

![overlap](overlap.png)

## Stable rank

{rank_table(rows)}

![stable rank](stable-rank.png)
""")
    (folder / "analysis.md").write_text(page, encoding="utf-8")
    draw_stable_rank(rows, folder / "stable-rank")
    draw_overlap(rows, k, folder / "overlap")
    return page
