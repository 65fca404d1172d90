"""Results on disk: latest.{json,md} of each machine, and a line of history for each comparison."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from statistics import median
from typing import Any

from speed import report
from trainer.shared.io import write_whole

HISTORY = "history.csv"
COLUMNS = (
    "date", "commit", "dirty", "machine", "workload", "comparison", "median", "min", "max",
    "command",
)  # fmt: skip
DIRTY = {True: "yes", False: "no", None: "not recorded"}


def write_latest(result: dict[str, Any], folder: Path) -> Path:
    """Over the machine's earlier ones; returns the page."""
    home = folder / result["slug"]
    page = home / "latest.md"
    texts = {home / "latest.json": json.dumps(result, indent=1) + "\n", page: report.page(result)}
    for path, text in texts.items():
        write_whole(path, text)
    return page


def history_rows(result: dict[str, Any]) -> list[list[str]]:
    return [
        [
            result["date"],
            result["commit"],
            DIRTY[result["dirty"]],
            result["slug"],
            ratio.workload,
            ratio.what,
            *(f"{value:.3f}" for value in (median(ratio.values), *ends(ratio.values))),
            result["command"],
        ]
        for ratio in report.ratios(result["runs"])
    ]


def ends(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def append_history(result: dict[str, Any], folder: Path) -> None:
    path = folder / HISTORY
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not path.is_file():
        writer.writerow(COLUMNS)
    writer.writerows(history_rows(result))
    with path.open("a", encoding="utf-8") as file:
        file.write(text.getvalue())
