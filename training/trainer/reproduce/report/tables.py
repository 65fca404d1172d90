"""The tables of a report, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.reproduce.findings.results import MEASURES, Curve, Results, Swept
from trainer.reproduce.jobs.grid import Figure
from trainer.reproduce.numbers.estimate import in_percent, number, share
from trainer.shared.markdown import markdown_table


def curve_table(results: Results, curves: Sequence[Curve]) -> str:
    """Each configuration's best and last evaluated epoch."""
    measures = list(MEASURES)
    rows = [["", "rate", "epoch", *(MEASURES[m] for m in measures), "Pass@1 of samples"]]
    base_sampled = in_percent(results.base_pass_at_1) if results.base_pass_at_1 else ""
    rows.append(
        ["base", "", "", *(in_percent(results.base.estimate(m)) for m in measures), base_sampled]
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
                    *(in_percent(stage.estimate(m)) for m in measures),
                    in_percent(sampled) if sampled else "",
                ]
            )
    return markdown_table(rows)


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
                        in_percent(stage.estimate(m))
                        for m in ("safe", "word_problem", "fact", "harmless")
                    ),
                ]
            )
    return markdown_table(rows) if len(rows) > 1 else ""


def gaps(results: Results, figure: Figure, configurations: dict[str, str]) -> str:
    """What a figure lacks: configurations without results, seeds whose training failed."""
    lines = [
        f"- {configurations[name]}: no results (not run to the end, or every final run failed)."
        for name in figure.configurations
        if name not in results.curves
    ]
    for name in figure.configurations:
        curve = results.curves.get(name)
        if curve and curve.failures:
            lines.append(
                f"- {curve.configuration.label}: {len(curve.failures)} of {results.seeds} seeds "
                f"failed and are left out ({curve.failures[0]})."
            )
    return "\n".join(lines)


# --- learning rates ----------------------------------------------------------------------------


def shares_of(swept: Swept, measures: Sequence[str]) -> list[str]:
    exam = swept.exam or {}
    return [f"{share(exam[m]):.1%}" if m in exam else "training failed" for m in measures]


def rule_table(curves: Sequence[Curve]) -> str:
    """For each sweep the rate that was chosen and the one of the strict rule."""
    measures = ("safe", "word_problem")
    rows = [
        ["", "chosen", "safety_score", "word problems", "strict rule", "safety_score",
         "word problems"]
    ]  # fmt: skip
    for curve in curves:
        at = {swept.rate: shares_of(swept, measures) for swept in curve.swept}
        strict = f"{curve.strict.rate:g}"
        if curve.strict.untried is not None:
            strict += f", then {curve.strict.untried:g} (not tried)"
        rows.append(
            [
                curve.configuration.label,
                f"{curve.rate:g}",
                *at[curve.rate],
                strict,
                *at[curve.strict.rate],
            ]
        )
    return markdown_table(rows)


def sweep_table(curves: Sequence[Curve]) -> str:
    rows = [["", "rate", "validation loss", "safety_score", "word problems", "facts", ""]]
    for curve in curves:
        for swept in curve.swept:
            loss = "" if swept.validation_loss is None else f"{swept.validation_loss:.3g}"
            marks = {"chosen": curve.rate, "strict": curve.strict.rate}
            rows.append(
                [
                    curve.configuration.label,
                    f"{swept.rate:g}",
                    loss,
                    *shares_of(swept, ("safe", "word_problem", "fact")),
                    ", ".join(mark for mark, rate in marks.items() if rate == swept.rate),
                ]
            )
    return markdown_table(rows)
