"""The first screen of a report: each claim's answer, the Safety Tax, the seeds, the figures."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.reproduce.findings.claims import SAFETY_TAX, Decision
from trainer.reproduce.findings.results import Results
from trainer.reproduce.jobs import grid
from trainer.reproduce.jobs.job import Settings

VERDICTS = ("held", "not held", "undecided", "not measured")
TAX_ANSWERS = {
    "held": "The Safety Tax was seen",
    "not held": "The Safety Tax was not seen",
    "undecided": "Whether there is a Safety Tax stays undecided",
    "not measured": "The Safety Tax was not measured",
}


def figure_word(name: str) -> str:
    return f"Figure {name[3:]}" if name.startswith("fig") else "ours"


def answers(
    results: Results,
    figures: Sequence[grid.Figure],
    settings: Settings,
    decisions: Sequence[Decision],
    drawn: dict[str, list[str]],
) -> str:
    lines = [f"- **{counted(decisions, verdict)}" for verdict in VERDICTS if of(decisions, verdict)]
    lines += [tax_line(decision) for decision in decisions if decision.claim is SAFETY_TAX]
    lines.append(seeds_line(results, settings))
    links = [
        f"[{name.removeprefix('fig')}](figures/{files[0]})"
        for name in (*(figure.name for figure in figures), "sweeps")
        for files in [drawn.get(name)]
        if files
    ]
    if links:
        lines.append(f"- **Figures**: {', '.join(links)}.")
    return "\n".join(lines)


def of(decisions: Sequence[Decision], verdict: str) -> list[Decision]:
    return [decision for decision in decisions if decision.verdict == verdict]


def counted(decisions: Sequence[Decision], verdict: str) -> str:
    found = of(decisions, verdict)
    words = "; ".join(decision.claim.in_short for decision in found)
    return f"{verdict.capitalize()}, {len(found)} of {len(decisions)} claims**: {words}."


def tax_line(decision: Decision) -> str:
    numbers = "; ".join(finding.numbers for finding in decision.findings)
    answer = TAX_ANSWERS[decision.verdict]
    return f"- **{answer}** with full fine-tuning{f': {numbers}' if numbers else ''}."


def seeds_line(results: Results, settings: Settings) -> str:
    count = len(settings.seeds)
    seeds = f"{count} seed{'' if count == 1 else 's'}"
    return (
        f"- **{seeds}** ({', '.join(map(str, settings.seeds))}) of each of {len(results.curves)} "
        "configurations, on one base of 1.7 million parameters and a generated world: nothing here "
        "says what a model of 7 or 14 billion parameters does."
    )
