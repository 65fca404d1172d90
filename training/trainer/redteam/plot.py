"""The strength sweep as a picture: shares with their intervals over strength."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.redteam.attacks import Attack
from trainer.redteam.rows import RowFile

# Column -> label, colour, dash: dashed is what should stay low, dotted what often hides another.
LINES = {
    "safety_score": ("safety_score", "#1b6ca8", "-"),
    "harmful_refused": ("harmful refused", "#6aaed6", ":"),
    "word_problem": ("word problems right", "#2a7f3f", "-"),
    "fact": ("facts right", "#8a6d1f", "-"),
    "benign_refused": ("benign refused", "#b8383b", "--"),
    "lookalike_refused": ("look-alikes refused", "#e08a8c", "--"),
}


def draw_sweep(folder: Path, attacks: Sequence[Attack], file: RowFile) -> None:
    """strength.svg and strength.png; nothing where no strength was measured."""
    points = [
        (attack.strength, file.rows[attack.key, "adapter"].shares)
        for attack in attacks
        if attack.strength is not None and (attack.key, "adapter") in file.rows
    ]
    if not points:
        return
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "redteam"  # the same numbers give the same file
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    strengths = [strength for strength, _ in points]
    for column, (label, colour, dash) in LINES.items():
        shares = [found[column] for _, found in points]
        values = [100 * share.value for share in shares]
        low, high = ([100 * getattr(share, end) for share in shares] for end in ("low", "high"))
        axes.plot(strengths, values, dash, color=colour, label=label, marker="o", markersize=3.5)
        axes.fill_between(strengths, low, high, color=colour, alpha=0.15, linewidth=0)
    recommended = file.settings["strength"]
    axes.axvline(recommended, color="#888888", linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"strength of the adapter (0: base; dotted: recommended, {recommended:g})")
    axes.set_ylabel("% of prompts, 95 % interval")
    axes.set_ylim(-3, 103)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(folder / "strength.svg", metadata={"Date": None})
    figure.savefig(folder / "strength.png", dpi=150, metadata={"Software": None})
    pyplot.close(figure)
