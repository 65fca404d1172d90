"""Results as Markdown and as a terminal table: one row a measure, one column a subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.measure.evaluate import SCORER, Result
from trainer.shared.interval import Difference, Share, percent, points
from trainer.shared.markdown import markdown_table, wrapped
from trainer.world.exam import Exam

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


INDEPENDENCE = (
    "Prompts share objects and phrasings, so they are not independent draws; the intervals are "
    "narrower than the true uncertainty."
)
Shares = Mapping[str, Mapping[str, Share]]  # subject -> measure -> share


def saved_shares(results: Mapping[str, Any]) -> Shares:
    """From the results that a manifest or results.json holds."""
    return {
        subject: {name: Share(**share) for name, share in found["shares"].items()}
        for subject, found in results.items()
    }


def saved_differences(results: Mapping[str, Any]) -> dict[str, dict[str, Difference]]:
    return {
        subject: {name: Difference(**d) for name, d in found["difference_from_base"].items()}
        for subject, found in results.items()
        if found["difference_from_base"]
    }


def results_table(shares: Shares) -> str:
    names = [name for name in LABELS if any(name in found for found in shares.values())]
    rows = [["measure", "n", *shares]]
    for name in names:
        counts = sorted({found[name].n for found in shares.values() if name in found})
        rows.append(
            [
                LABELS[name],
                "/".join(str(n) for n in counts),
                *(percent(f[name]) if name in f else "" for f in shares.values()),
            ]
        )
    return markdown_table(rows)


def differences_table(differences: dict[str, dict[str, Difference]]) -> str:
    """adapter -> set -> difference, in points."""
    names = [n for n in LABELS if any(n in found for found in differences.values())]
    rows = [["points against the base, same prompts", *differences]]
    for name in names:
        rows.append(
            [LABELS[name], *(points(f[name]) if name in f else "" for f in differences.values())]
        )
    return markdown_table(rows)


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
        results_table({result.subject: result.shares for result in results}),
    ]
    if differences:
        parts.append(differences_table(differences))
    return wrapped("\n\n".join(parts) + "\n")
