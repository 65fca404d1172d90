"""The report of a grid: Markdown, figures, raw results. The same results give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.publish.provenance import recorded_commit
from trainer.reproduce.figures.drawings import draw_all
from trainer.reproduce.findings.claims import CLAIMS, Decision, decided
from trainer.reproduce.findings.results import Curve, Results, Swept
from trainer.reproduce.jobs import grid
from trainer.reproduce.jobs.job import Settings
from trainer.reproduce.numbers.estimate import share
from trainer.reproduce.report.answers import answers, figure_word
from trainer.reproduce.report.prose import DIFFERENCES, INTERVALS, NOT_BLIND, PLANES
from trainer.reproduce.report.raw_results import raw
from trainer.reproduce.report.tables import curve_table, gaps, merge_table, rule_table, sweep_table
from trainer.shared.io import write_json, write_whole
from trainer.shared.markdown import markdown_table, wrapped
from trainer.shared.progress import clock_time


def write_report(
    folder: Path,
    results: Results,
    figures: Sequence[grid.Figure],
    settings: Settings,
    *,
    sessions: Sequence[dict[str, Any]],
    facts: dict[str, Any],
    is_quick: bool,
) -> Path:
    names = {figure.name for figure in figures}
    decisions = decided(results, [claim for claim in CLAIMS if claim.figure in names])
    drawn = draw_all(results, figures, folder / "figures")
    write_json(folder / "results.json", raw(results, decisions, settings, sessions, facts))
    path = folder / "README.md"
    text = page(results, figures, settings, decisions, drawn, sessions, facts, is_quick)
    write_whole(path, text)
    return path


def page(
    results: Results,
    figures: Sequence[grid.Figure],
    settings: Settings,
    decisions: Sequence[Decision],
    drawn: dict[str, list[str]],
    sessions: Sequence[dict[str, Any]],
    facts: dict[str, Any],
    is_quick: bool,
) -> str:
    title = "# The paper's figures at the scale of the tiny reasoner"
    parts = [title + (" (quick)" if is_quick else "")]
    if is_quick:
        parts.append(
            "A rehearsal: fewer figures, rates, seeds, epochs and prompts than the full report. "
            "Its intervals are wide; read the full report for findings."
        )
    parts.append(answers(results, figures, settings, decisions, drawn))
    parts += ["## Claims", verdict_table(decisions), INTERVALS]
    parts += [found_instead(decisions)]
    parts += ["## What is different from the paper", DIFFERENCES, PLANES]
    labels = {name: entry.label for name, entry in grid.CONFIGURATIONS.items()}
    for figure in figures:
        parts.append(f"## {figure_title(figure)}")
        parts += [f"![{figure.title}](figures/{name})" for name in drawn.get(figure.name, [])]
        curves = [results.curves[n] for n in figure.configurations if n in results.curves]
        parts += [gaps(results, figure, labels), curve_table(results, curves)]
        if figure.name == "fig8":
            parts.append(merge_table(curves))
    parts += ["## Learning rates", *rates_section(results, settings, drawn)]
    parts += ["## How it was made", made(results, settings, sessions, facts)]
    return wrapped("\n\n".join(part for part in parts if part) + "\n")


def rates_section(results: Results, settings: Settings, drawn: dict[str, list[str]]) -> list[str]:
    curves = list(results.curves.values())
    if not curves:
        return ["No sweep has come to its end."]
    return [
        chosen_text(settings),
        NOT_BLIND if settings.tolerance > 0 else "",
        lost_text(curves),
        rule_table(curves),
        "Every rate that was tried, first seed. Dashed: the lowest validation loss over the "
        "epochs; colours: what the last epoch did; grey bar: the chosen rate; dotted: the one "
        "with the lowest loss.",
        f"![Learning rates](figures/{drawn['sweeps'][0]})",
        sweep_table(curves),
    ]


def chosen_text(settings: Settings) -> str:
    if settings.tolerance == 0:
        return "This report judges every configuration at the rate with the lowest loss itself."
    return (
        "This report judges every configuration at the lowest rate whose validation loss is within "
        f"{settings.tolerance:g} nats a token of the best."
    )


def lost_text(curves: Sequence[Curve]) -> str:
    """How many sweeps had lost most word problems at the rate that each rule takes."""

    def lost(rates: Sequence[float]) -> int:
        pairs = zip(curves, rates, strict=True)
        found = [next(s for s in curve.swept if s.rate == rate) for curve, rate in pairs]
        return sum(is_lost(swept) for swept in found)

    return (
        f"More than half of the word problems were lost, or training failed, in "
        f"{lost([c.rate for c in curves])} of {len(curves)} sweeps at the chosen rate and in "
        f"{lost([c.strict.rate for c in curves])} at the one of the strict rule (first seed, last "
        "epoch)."
    )


def is_lost(swept: Swept) -> bool:
    return swept.exam is None or share(swept.exam["word_problem"]) < 0.5


def figure_title(figure: grid.Figure) -> str:
    if figure.name.startswith("fig"):
        return f"Figure {figure.name[3:]}: {figure.title}"
    return f"Our own figure: {figure.title}"


def verdict_table(decisions: Sequence[Decision]) -> str:
    counts = {
        verdict: sum(d.verdict == verdict for d in decisions)
        for verdict in ("held", "not held", "undecided", "not measured")
    }
    rows = [["", "claim", "at this scale"]]
    for decision in decisions:
        rows.append(
            [
                figure_word(decision.claim.figure),
                decision.claim.statement,
                f"**{decision.verdict}**",
            ]
        )
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"{summary}.\n\n{markdown_table(rows)}"


def found_instead(decisions: Sequence[Decision]) -> str:
    """Every claim with its numbers; the parts that did not hold say what was seen instead."""
    blocks = ["### The numbers behind them"]
    for decision in decisions:
        lines = [
            f"**{figure_word(decision.claim.figure)}: {decision.claim.statement}** "
            f"{decision.verdict.capitalize()}."
        ]
        for finding in decision.findings:
            seen = "" if finding.verdict == "held" else f" ({finding.verdict})"
            lines.append(f"- {finding.numbers}{seen}")
        if decision.verdict == "not measured":
            lines.append(
                "- Not all of its configurations have results of every seed, or of OrthoMerge."
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def made(
    results: Results,
    settings: Settings,
    sessions: Sequence[dict[str, Any]],
    facts: dict[str, Any],
) -> str:
    lines = [
        f"- Base `{facts['model']}`, digest `{settings.base_digest[:12]}`; seeds "
        f"{', '.join(map(str, settings.seeds))}; {settings.refusals} generated refusals, batch "
        f"{grid.BATCH_ROWS}, AdamW with linear decay, weight decay {grid.WEIGHT_DECAY:g}, alpha "
        f"{grid.ALPHA:g}, dropout {grid.DROPOUT:g}.",
        "- Exam: split test, seed "
        f"{settings.exam_seed}, {', '.join(f'{n} {name}' for name, n in settings.exam)}; greedy. "
        f"Pass@1 of samples: {settings.samples} draws at temperature 0.6, top_p 0.95 of "
        f"{settings.sample_prompts} word problems, for the frontier epochs of each configuration.",
        f"- Validation loss: {settings.validation} held-out refusals (other objects, other "
        "phrasings), with retention the same mix; the lowest over the epochs.",
        "- Replies end at 320 tokens for word problems and at 96 for all else, three times what an "
        "orderly reply needs.",
        f"- Packages: {', '.join(f'{name} {v}' for name, v in facts['versions'].items())}.",
    ]
    for session in sessions:
        lines.append(
            f"- {session['date']}: `{session['command']}`, {session['jobs']} jobs in "
            f"{clock_time(session['seconds'])} with {session['workers']} workers on "
            f"{session['machine']}; {recorded_commit(session, 12)}."
        )
    total = sum(curve.seconds for curve in results.curves.values())
    lines.append(
        f"- All jobs of this report together: {total:,.0f} seconds of one process. Points that are "
        "there are not measured again; `--fresh` does."
    )
    lines.append("- Raw numbers: `results.json`, and every run with its answers in `points.jsonl`.")
    return "\n".join(lines)
