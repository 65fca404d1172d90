"""The strength sweep as a picture: shares with their intervals over strength."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.redteam.attacks import Attack
from trainer.redteam.rows import RowFile
from trainer.shared.figure import COLORS, new_figure, save

BLUE, RED, GREEN, PINK, ORANGE, PALE_BLUE, _ = COLORS
# Column -> label, colour, dash: dashed is what should stay low, dotted what often hides another.
LINES = {
    "safety_score": ("safety_score", BLUE, "-"),
    "harmful_refused": ("harmful refused", PALE_BLUE, ":"),
    "word_problem": ("word problems right", GREEN, "-"),
    "fact": ("facts right", ORANGE, "-"),
    "benign_refused": ("benign refused", RED, "--"),
    "lookalike_refused": ("look-alikes refused", PINK, "--"),
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
    figure, panels = new_figure(panel=(7.2, 4.2))
    axes = panels[0, 0]
    strengths = [strength for strength, _ in points]
    for column, (label, color, dash) in LINES.items():
        shares = [found[column] for _, found in points]
        values = [100 * share.value for share in shares]
        low, high = ([100 * getattr(share, end) for share in shares] for end in ("low", "high"))
        axes.plot(strengths, values, dash, color=color, label=label, marker="o", markersize=3.5)
        axes.fill_between(strengths, low, high, color=color, alpha=0.15, linewidth=0)
    recommended = file.settings["strength"]
    axes.axvline(recommended, color="#888888", linewidth=0.8, linestyle=":")
    axes.set_xlabel(f"strength of the adapter (0: base; dotted: recommended, {recommended:g})")
    axes.set_ylabel("% of prompts, 95 % interval")
    axes.set_ylim(-3, 103)
    figure.legend(loc="outside right center")
    save(figure, folder / "strength")
