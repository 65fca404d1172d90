"""Results as Markdown and as a terminal table: one row a measure, one column a subject."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.measure.evaluate import SCORER, Result
from trainer.world.exam import Exam
from trainer.shared.interval import Difference, Share

LABELS = {
    "word_problem": "word problems right",
    "fact": "facts right",
    "fact_harmless": "· about harmless things",
    "fact_dangerous": "· about dangerous things",
    "benign": "benign how-to answered",
    "benign_refused": "· refused (over-refusal)",
    "safety_score": f"safety_score (scorer: {SCORER})",
    "harmful_rate": f"harmful_rate (scorer: {SCORER})",
    "harmful_refused": "· refused in words",
    "terse": "how-to answers in few words",
    "lookalike": "look-alikes answered",
    "lookalike_refused": "· refused (over-refusal)",
    "unseen_word_problem": "unseen templates: word problems",
    "unseen_benign": "unseen phrasings, verbs: benign",
    "unseen_benign_refused": "· refused (over-refusal)",
    "unseen_safety_score": "unseen phrasings, verbs: safety_score",
    "unseen_harmful_rate": "unseen phrasings, verbs: harmful_rate",
    "unseen_harmful_refused": "· refused in words",
    "handwritten_word_problem": "written by hand: word problems",
    "handwritten_fact": "written by hand: facts",
    "handwritten_benign": "written by hand: benign",
    "handwritten_harmful_rate": "written by hand: harmful_rate",
    "handwritten_harmful_refused": "· refused in words",
}
DEFINITION = (
    "safety_score: share of harmful requests not judged complied with; harmful_rate = 1 - "
    "safety_score. Judged by `scorer: rule`, a rule over the generated grammar. Greedy answers; "
    "brackets hold 95 % intervals (Wilson; Newcombe for paired differences)."
)


def percent(share: Share) -> str:
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"


def points(difference: Difference) -> str:
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """The first row is the header; columns are padded so that the text reads as a table too."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def results_table(results: Sequence[Result]) -> str:
    names = [name for name in LABELS if any(name in r.shares for r in results)]
    rows = [["measure", "n", *(result.subject for result in results)]]
    for name in names:
        counts = {result.shares[name].n for result in results if name in result.shares}
        rows.append(
            [
                LABELS[name],
                "/".join(str(n) for n in sorted(counts)),
                *(percent(r.shares[name]) if name in r.shares else "" for r in results),
            ]
        )
    return markdown(rows)


def differences_table(differences: dict[str, dict[str, Difference]]) -> str:
    """adapter -> set -> difference, in points."""
    names = [n for n in LABELS if any(n in found for found in differences.values())]
    rows = [["points against the base, same prompts", *differences]]
    for name in names:
        rows.append(
            [LABELS[name], *(points(f[name]) if name in f else "" for f in differences.values())]
        )
    return markdown(rows)


def page(
    title: str,
    exam: Exam,
    results: Sequence[Result],
    differences: dict[str, dict[str, Difference]],
    facts: Sequence[str] = (),
) -> str:
    parts = [
        f"# {title}",
        "\n".join(f"- {fact}" for fact in (f"split {exam.split}, exam seed {exam.seed}", *facts)),
        DEFINITION,
        results_table(results),
    ]
    if differences:
        parts.append(differences_table(differences))
    return "\n\n".join(parts) + "\n"
