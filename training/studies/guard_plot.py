"""Table and picture of guard_curve.py's rows: AUROC over data, by judge and rank.

python studies/guard_plot.py RUNS.jsonl --output ../docs/real/guard
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guard_tests import MEAN

from trainer.shared.figure import COLORS, MARKERS, new_figure, save
from trainer.shared.io import json_lines
from trainer.shared.markdown import markdown_table

Row = Mapping[str, Any]
GOAL = 0.85
LAYERS = {"23": "layer 23", "8,12,16,20,24,28": "six layers"}  # of probes; fixed before any score
TITLES = {
    "xstest": "XSTest", "jbb": "JBB", "wildguardtest": "WildGuardTest",
    "openai_moderation": "OpenAI moderation", "harmbench_val": "HarmBench answers",
}  # fmt: skip


def family(row: Row) -> str | None:
    """None: a probe of another layer, which the rows hold and the picture leaves out."""
    if row["judge"] == "verdict":
        return f"verdict, rank {row['rank']}"
    layers = LAYERS.get(row["layer"])
    where = "last token" if row["pool"] == "last" else "mean of tokens"
    return layers and f"probe, {where}, {layers}"


def families_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """By rising number of texts."""
    found: dict[str, list[Row]] = {}
    for row in sorted((row for row in rows if "carrier" not in row), key=lambda r: r["texts"]):
        name = family(row)
        if name:
            found.setdefault(name, []).append(row)
    return dict(sorted(found.items(), key=lambda item: (item[0][0] != "v", len(item[0]), item[0])))


def area(value: float, ends: Sequence[float]) -> str:
    return f"{value:.3f} [{ends[0]:.2f}, {ends[1]:.2f}]"


def table(families: Mapping[str, Sequence[Row]]) -> str:
    cells = [["judge", "texts", "mean", *(TITLES[name] for name in MEAN)]]
    for name, rows in families.items():
        for row in rows:
            cells.append(
                [name, f"{row['texts']:,}", area(row["mean"], row["mean_interval"])]
                + [area(row["auroc"][test], row["intervals"][test]) for test in MEAN]
            )
    return markdown_table(cells)


def draw(families: Mapping[str, Sequence[Row]], path: Path) -> None:
    figure, axes = new_figure(1, 2, share_y=True)
    ranks = [name for name in families if name.startswith("verdict")]
    for axis, names in (
        (axes[0][0], ranks), (axes[0][1], [name for name in families if name not in ranks])
    ):  # fmt: skip
        axis.axhline(GOAL, color="#999999", linewidth=0.8, linestyle=":")
        for place, name in enumerate(names):
            index = list(families).index(name)
            rows = sorted(families[name], key=lambda row: row["texts"])
            means = [row["mean"] for row in rows]
            ends = [
                [m - row["mean_interval"][0] for m, row in zip(means, rows, strict=True)],
                [row["mean_interval"][1] - m for m, row in zip(means, rows, strict=True)],
            ]
            axis.errorbar(
                [row["texts"] * (1 + 0.015 * place) for row in rows], means, ends, label=name,
                color=COLORS[index % len(COLORS)], marker=MARKERS[index % len(MARKERS)],
                capsize=2, elinewidth=0.8,
            )  # fmt: skip
        axis.set_xscale("log")
        sizes = sorted({row["texts"] for rows in families.values() for row in rows})
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
        axis.set_xlabel("training texts")
    axes[0][0].set_ylabel("mean AUROC over five tests")
    axes[0][0].legend()
    axes[0][1].legend()
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="the picture, without suffix")
    given = parser.parse_args()
    families = families_of(json_lines(given.rows))
    print(table(families))
    draw(families, given.output)


if __name__ == "__main__":
    main()
