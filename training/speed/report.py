"""Runs to ratios, targets and a page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from trainer.shared.markdown import wrapped

MIB = 1 << 20
FASTER = {"equal": 1.2, "spread": 1.6}  # times stock's seconds over ours, at least
SMALLER = 0.5  # our peak over stock's, at most


@dataclass(frozen=True)
class Ratio:
    """A ratio of every round, of two runs made one after the other."""

    workload: str
    what: str
    values: list[float]
    target: float | None = None
    is_floor: bool = True

    def verdict(self) -> str:
        if self.target is None:
            return ""
        middle = median(self.values)
        is_met = middle >= self.target if self.is_floor else middle <= self.target
        return "met" if is_met else "**not met**"

    def line(self) -> str:
        sign = "≥" if self.is_floor else "≤"
        target = "" if self.target is None else f"{sign} {self.target:g}"
        spread = f"{min(self.values):.2f} to {max(self.values):.2f}"
        return (
            f"| {self.workload} | {self.what} | {median(self.values):.2f} | {spread} "
            f"| {target} | {self.verdict()} |"
        )


def ratios(runs: Sequence[dict[str, Any]]) -> list[Ratio]:
    found: list[Ratio] = []
    for workload in dict.fromkeys(run["workload"] for run in runs):
        kinds = dict.fromkeys(r["kind"] for r in runs if r["workload"] == workload)
        for other in sorted(kind for kind in kinds if kind != "ours"):
            is_plain = other == "stock"

            def values(field: str, workload: str = workload, other: str = other) -> list[float]:
                return [
                    theirs[field] / ours[field]
                    for ours, theirs in pairs(runs, workload, other)
                    if ours[field] is not None
                ]

            target = FASTER[workload] if is_plain else None
            found.append(Ratio(workload, f"seconds: {other} over ours", values("seconds"), target))
            found.append(Ratio(workload, f"CPU seconds: {other} over ours", values("cpu_seconds")))
            peaks = [1 / value for value in values("peak_bytes")]
            what = f"peak memory above the weights: ours over {other}"
            if peaks:
                bar = SMALLER if is_plain else None
                found.append(Ratio(workload, what, peaks, bar, is_floor=False))
    return found


def pairs(
    runs: Sequence[dict[str, Any]], workload: str, other: str
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    by_key = {(r["workload"], r["round"], r["kind"]): r for r in runs}
    rounds = sorted({r["round"] for r in runs})
    keys = [((workload, n, "ours"), (workload, n, other)) for n in rounds]
    return [(by_key[a], by_key[b]) for a, b in keys if a in by_key and b in by_key]


def page(result: dict[str, Any]) -> str:
    recipe, runs = result["recipe"], result["runs"]
    weights = runs[0]["weight_bytes"] / MIB
    loads = [run["load"] for run in runs]
    lines = [
        "# Training benchmark",
        "",
        f"`{result['command']}` · {commit_words(result)} · {result['date']}  ",
        f"{result['machine']} · {result['versions']}  ",
        f"Shape {result['shape']} with random weights ({weights:,.0f} MiB, {result['dtype']}), "
        f"device {result['device']}, {result['threads']} thread(s); load average "
        f"{min(loads):.1f} to {max(loads):.1f} before the runs.  ",
        f"LoRA rank {recipe['rank']} on {', '.join(recipe['target_modules'])}, layers "
        f"{recipe['layers']}, alpha {recipe['alpha']:g}, dropout {recipe['dropout']:g}, AdamW "
        f"{recipe['learning_rate']:g}, batch {recipe['batch_size']}, {recipe['epochs']} epochs; "
        f"activation checkpointing {'on' if result['gradient_checkpointing'] else 'off'}.",
        "",
        "`stock` is PEFT with the Hugging Face Trainer, `stock-grouped` the same with "
        "`train_sampling_strategy=group_by_length`. Each run is a process of its own; a ratio is "
        "the median of the rounds' own ratios. Seconds are of the whole training, our filling of "
        "the prefix cache included, over the epochs. CPU seconds leave out what other work on the "
        "machine took. Peak memory counts from when the model was loaded.",
        "",
        "| workload | comparison | median | least to most | target | |",
        "| --- | --- | --- | --- | --- | --- |",
        *(ratio.line() for ratio in ratios(runs)),
        "",
        "| workload | who | s an epoch | least to most | CPU s an epoch | peak MiB | padding "
        "| last loss |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *table(runs, recipe["epochs"]),
        "",
        *(workload_line(name, rows) for name, rows in result["lengths"].items()),
        "",
        "Before timing, both learn from the same rows in the same order, float32, without "
        "dropout, at a rate that moves the loss:",
        "",
        "| workload | our losses | stock's | update's relative difference |",
        "| --- | --- | --- | --- |",
        *(
            f"| {c['workload']} | {numbers(c['ours'])} | {numbers(c['stock'])} "
            f"| {c['update_difference']:.1e} |"
            for c in result["checks"]
        ),
    ]
    return wrapped("\n".join(lines) + "\n")


def commit_words(result: dict[str, Any]) -> str:
    """Sources that differed from their commit are never left unsaid."""
    if result["dirty"] is None:
        return f"commit {result['commit']} (whether with changes was not recorded)"
    return f"commit {result['commit']}{' with changes' if result['dirty'] else ''}"


def numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def table(runs: Sequence[dict[str, Any]], epochs: int) -> list[str]:
    lines = []
    for workload, kind in dict.fromkeys((r["workload"], r["kind"]) for r in runs):
        mine = [r for r in runs if (r["workload"], r["kind"]) == (workload, kind)]
        seconds = [r["seconds"] / epochs for r in mine]
        cpu = median(r["cpu_seconds"] / epochs for r in mine)
        peaks = [r["peak_bytes"] / MIB for r in mine if r["peak_bytes"] is not None]
        peak = f"{median(peaks):,.0f}" if peaks else "not read"
        lines.append(
            f"| {workload} | {kind} | {median(seconds):.1f} | {min(seconds):.1f} to "
            f"{max(seconds):.1f} | {cpu:.1f} | {peak} | {median(r['padding'] for r in mine):.1%} "
            f"| {median(r['losses'][-1] for r in mine):.4f} |"
        )
    return lines


def workload_line(name: str, lengths: Sequence[int]) -> str:
    ordered = sorted(lengths)
    return (
        f"- {name}: {len(ordered)} rows of {ordered[0]} to {ordered[-1]} tokens, median "
        f"{ordered[len(ordered) // 2]}, mean {sum(ordered) / len(ordered):.0f}"
    )
