"""The report of a grid: Markdown, figures, raw results. The same results give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainer.progress import clock_time
from trainer.reasoner import write_json
from trainer.reproduce import grid
from trainer.reproduce.claims import CLAIMS, Decision, decided
from trainer.reproduce.estimate import number, percent
from trainer.reproduce.figures import draw_all
from trainer.reproduce.job import Settings
from trainer.reproduce.results import MEASURES, Curve, Results
from trainer.reproduce.verdict import MARGIN
from trainer.table import markdown

INTERVALS = f"""\
Brackets hold 95 % intervals. They cover the seeds (Student's t over the runs) and the prompts
(Wilson; Newcombe for differences on the same prompts); the two are added as independent errors.
All runs answer the same prompts, so more seeds do not make the prompts' part smaller. Prompts share
words and objects: the true uncertainty is larger still. A claim is *held* or *not held* when its
whole interval says so; "on par" means less than {100 * MARGIN:.0f} points worse, and a "better"
whose interval lies within {100 * MARGIN:.0f} points on both sides is not held. The frontier area is
the share of the (safety, word problems) plane that a configuration's epochs dominate. Many
comparisons are made here and none is corrected for it: about one in forty true equalities would
look like a difference in a given direction."""

DIFFERENCES = """\
- **Size**: 1.7 million parameters, hidden 128, 8 layers, against 7 and 14 billion. Rank 64 is half
  of a hidden dimension here; of 5,120 it is 1.25 %.
- **World**: word problems, facts and how-to requests come from a small grammar. A skill here is a
  few hundred templates; AIME, GPQA, HumanEval and MBPP are not measured.
- **Base**: harmful compliance was trained back in after alignment, so a refusal is latent. A real
  distilled model loses its safety in other ways.
- **Judge**: a rule over the grammar, not Llama-Guard. Like the paper's judge it counts an answer
  that is no longer language as safe; "harmful refused in words" is therefore shown beside it.
- **Learning rate**: the paper uses 5e-5 everywhere. Here each configuration has its own sweep, on
  the first seed, by validation loss on held-out refusals. That loss knows nothing of what is lost
  elsewhere: it falls on and on with the rate while the word problems go to zero, for every
  configuration. So the lowest rate within a tolerance of the best loss is taken, and "Learning
  rates" below shows what every swept rate did, the one with the lowest loss too
  (`--tolerance 0` judges all at that one).
- **Layers**: early, middle and late are the same shares of the depth as the paper's, of 8 layers.
- **Not measured**: BeaverTails, Llama-8B, the base versions of the coding sets (figures 9 to 12 of
  the paper); values of β other than 1, as the paper found no difference."""


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
    partial = path.with_name(".README.md.partial")
    text = page(results, figures, settings, decisions, drawn, sessions, facts, is_quick)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
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
    parts += ["## Claims", verdict_table(decisions), INTERVALS]
    parts += [found_instead(decisions)]
    parts += ["## What is different from the paper", DIFFERENCES]
    for figure in figures:
        parts.append(f"## {figure_title(figure)}")
        parts += [f"![{figure.title}](figures/{name})" for name in drawn.get(figure.name, [])]
        curves = [results.curves[n] for n in figure.configurations if n in results.curves]
        parts.append(curve_table(results, curves))
        if figure.name == "fig8":
            parts.append(merge_table(curves))
    parts += ["## Learning rates", sweep_text(), f"![sweeps](figures/{drawn['sweeps'][0]})"]
    parts.append(sweep_table(list(results.curves.values())))
    parts += ["## How it was made", made(results, settings, sessions, facts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def figure_title(figure: grid.Figure) -> str:
    if figure.name.startswith("fig"):
        return f"Figure {figure.name[3:]}: {figure.title}"
    return f"Our own figure: {figure.title}"


def figure_word(name: str) -> str:
    return f"Figure {name[3:]}" if name.startswith("fig") else "ours"


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
    return f"{summary}.\n\n{markdown(rows)}"


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
            lines.append("- Not all of its configurations have results.")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def curve_table(results: Results, curves: Sequence[Curve]) -> str:
    """Each configuration's best and last evaluated epoch."""
    measures = list(MEASURES)
    rows = [["", "rate", "epoch", *(MEASURES[m] for m in measures), "Pass@1 of samples"]]
    base_sampled = percent(results.base_pass_at_1) if results.base_pass_at_1 else ""
    rows.append(
        ["base", "", "", *(percent(results.base.estimate(m)) for m in measures), base_sampled]
    )
    for curve in curves:
        for epoch in dict.fromkeys((curve.best_epoch, max(curve.stages))):
            stage = curve.stages[epoch]
            mark = "best" if epoch == curve.best_epoch else "last"
            sampled = curve.pass_at_1.get(epoch)
            rows.append(
                [
                    curve.configuration.label,
                    f"{curve.rate:g}",
                    f"{epoch} ({mark})",
                    *(percent(stage.estimate(m)) for m in measures),
                    percent(sampled) if sampled else "",
                ]
            )
    return markdown(rows)


def merge_table(curves: Sequence[Curve]) -> str:
    rows = [["OrthoMerge of", "mode", "k", "λ", "column share", "row share", "safety_score",
             "word problems", "facts", "harmless answered"]]  # fmt: skip
    for curve in curves:
        for merge in curve.merges:
            stage = merge.stage
            rows.append(
                [
                    curve.configuration.label,
                    merge.mode,
                    str(merge.k),
                    f"{merge.strength:g}",
                    number(merge.overlap[1]),
                    number(merge.overlap[3]),
                    *(
                        percent(stage.estimate(m))
                        for m in ("safe", "word_problem", "fact", "harmless")
                    ),
                ]
            )
    return markdown(rows) if len(rows) > 1 else ""


def sweep_text() -> str:
    return (
        "Each configuration at each rate, first seed: black, the lowest validation loss over the "
        "epochs; colours, what the last epoch did. The grey bar marks the chosen rate."
    )


def sweep_table(curves: Sequence[Curve]) -> str:
    rows = [["", "rate", "validation loss", "safety_score", "word problems", "facts", ""]]
    for curve in curves:
        for swept in curve.swept:
            exam = swept.exam or {}
            shares = [
                f"{exam[m].count('1') / len(exam[m]):.1%}" if m in exam else "training failed"
                for m in ("safe", "word_problem", "fact")
            ]
            loss = "" if swept.validation_loss is None else f"{swept.validation_loss:.4f}"
            mark = "chosen" if swept.rate == curve.rate else ""
            if swept.validation_loss == min(s.validation_loss or math.inf for s in curve.swept):
                mark = f"{mark}, lowest loss".strip(", ")
            rows.append([curve.configuration.label, f"{swept.rate:g}", loss, *shares, mark])
    return markdown(rows)


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
        "phrasings), with retention the same mix; the lowest over the epochs. Chosen: the lowest "
        f"rate within {settings.tolerance:g} nats a token of the best.",
        "- Replies end at 320 tokens for word problems and at 96 for all else, three times what an "
        "orderly reply needs.",
        f"- Packages: {', '.join(f'{name} {v}' for name, v in facts['versions'].items())}.",
    ]
    for session in sessions:
        lines.append(
            f"- {session['date']}: `{session['command']}`, {session['jobs']} jobs in "
            f"{clock_time(session['seconds'])} with {session['workers']} workers on "
            f"{session['machine']}."
        )
    total = sum(curve.seconds for curve in results.curves.values())
    lines.append(
        f"- All jobs of this report together: {total:,.0f} seconds of one process. Points that are "
        "there are not measured again; `--fresh` does."
    )
    lines.append("- Raw numbers: `results.json`, and every run with its answers in `points/`.")
    return "\n".join(lines)


def raw(
    results: Results,
    decisions: Sequence[Decision],
    settings: Settings,
    sessions: Sequence[dict[str, Any]],
    facts: dict[str, Any],
) -> dict[str, Any]:
    def estimates(stage: Any) -> dict[str, Any]:
        return {measure: asdict(stage.estimate(measure)) for measure in MEASURES}

    return {
        "settings": asdict(settings),
        **facts,
        "sessions": list(sessions),
        "base": estimates(results.base),
        "claims": [
            {
                "figure": d.claim.figure,
                "claim": d.claim.statement,
                "verdict": d.verdict,
                "findings": [asdict(finding) for finding in d.findings],
            }
            for d in decisions
        ],
        "configurations": {
            name: {
                "label": curve.configuration.label,
                "rate": curve.rate,
                "swept": {f"{s.rate:g}": s.validation_loss for s in curve.swept},
                "training_loss": {str(k): v for k, v in curve.losses.items()},
                "epochs": {str(k): estimates(stage) for k, stage in curve.stages.items()},
                "frontier_area_by_seed": curve.areas(),
                "pass_at_1": {str(k): asdict(v) for k, v in curve.pass_at_1.items()},
                "orthomerge": [
                    {"mode": m.mode, "k": m.k, "strength": m.strength} | estimates(m.stage)
                    for m in curve.merges
                ],
                "seconds": round(curve.seconds, 1),
                "failures": list(curve.failures),
            }
            for name, curve in results.curves.items()
        },
    }
