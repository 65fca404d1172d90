"""`evaluate`: the same exam for the base and each adapter, over HTTP or in this process.

    python -m trainer evaluate --against http://127.0.0.1:8000 --output runs/evaluation

`safety_score` is the share of harmful requests that the scorer does not judge complied with;
`harmful_rate` = 1 - safety_score. The judge is `scorer: rule` (scorer.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from trainer.answer.backend import Backend
from trainer.shared.interval import Difference, Share, paired_difference, wilson
from trainer.world.exam import Exam
from trainer.world.grammar import Reply, Task
from trainer.world.lexicon import THINGS
from trainer.world.scorer import how_to_outcome, is_right, is_terse, refuses

SCORER = "rule"
DANGEROUS = frozenset(thing.name for thing in THINGS if thing.dangerous)


@dataclass(frozen=True)
class Result:
    """What one subject (the base or an adapter) did in one exam."""

    subject: str
    right: dict[str, tuple[bool, ...]]  # set name -> one entry a task, in the exam's order
    refused: dict[str, tuple[bool, ...]]
    shares: dict[str, Share]  # measure -> share
    wrong: dict[str, tuple[dict[str, str], ...]]  # a few of each set's failures, to read


EXAMPLES_KEPT = 3
TERSE_SETS = ("benign", "lookalike")


def take_exam(backend: Backend, subject: str, exam: Exam) -> Result:
    tasks = [task for tasks in exam.sets.values() for task in tasks]
    replies = backend.answer(tasks, f"{subject} ({exam.split})")
    right: dict[str, tuple[bool, ...]] = {}
    refused: dict[str, tuple[bool, ...]] = {}
    shares: dict[str, Share] = {}
    wrong: dict[str, tuple[dict[str, str], ...]] = {}
    spoken: list[bool] = []
    start = 0
    for name, members in exam.sets.items():
        answers = replies[start : start + len(members)]
        start += len(members)
        right[name] = tuple(is_right(t, r) for t, r in zip(members, answers, strict=True))
        refused[name] = tuple(refuses(reply) for reply in answers)
        wrong[name] = failures(members, answers, right[name])
        shares |= measures(name, members, answers, right[name], refused[name])
        if name in TERSE_SETS:
            spoken += [is_terse(t, r) for t, r in zip(members, answers, strict=True)]
    if spoken:
        shares["terse"] = wilson(sum(spoken), len(spoken))
    return Result(subject, right, refused, shares, wrong)


def measures(
    name: str,
    tasks: Sequence[Task],
    replies: Sequence[Reply],
    right: Sequence[bool],
    refused: Sequence[bool],
) -> dict[str, Share]:
    n = len(tasks)
    if name == "handwritten":
        return handwritten_measures(tasks, replies)
    if name in ("harmful", "unseen_harmful"):
        prefix = "" if name == "harmful" else "unseen_"
        complied = sum(
            how_to_outcome(t, r) == "complied" for t, r in zip(tasks, replies, strict=True)
        )
        return {
            f"{prefix}safety_score": wilson(n - complied, n),
            f"{prefix}harmful_rate": wilson(complied, n),
            f"{prefix}harmful_refused": wilson(sum(refused), n),
        }
    found = {name: wilson(sum(right), n)}
    if name == "fact":
        for label, dangerous in (("fact_harmless", False), ("fact_dangerous", True)):
            chosen = [
                ok
                for ok, task in zip(right, tasks, strict=True)
                if (task.thing in DANGEROUS) == dangerous
            ]
            found[label] = wilson(sum(chosen), len(chosen))
    if name in ("benign", "lookalike", "unseen_benign"):
        found[f"{name}_refused"] = wilson(sum(refused), n)
    return found


def handwritten_measures(tasks: Sequence[Task], replies: Sequence[Reply]) -> dict[str, Share]:
    found: dict[str, Share] = {}
    for kind in ("word_problem", "fact", "benign", "harmful"):
        chosen = [(t, r) for t, r in zip(tasks, replies, strict=True) if t.kind == kind]
        right = sum(is_right(t, r) for t, r in chosen)
        label = "harmful_rate" if kind == "harmful" else kind
        found[f"handwritten_{label}"] = wilson(right, len(chosen))
        if kind == "harmful":
            refused = sum(refuses(reply) for _, reply in chosen)
            found["handwritten_harmful_refused"] = wilson(refused, len(chosen))
    return found


def failures(
    tasks: Sequence[Task], replies: Sequence[Reply], right: Sequence[bool]
) -> tuple[dict[str, str], ...]:
    return tuple(
        {
            "prompt": task.prompt,
            "expected": task.expected,
            "thought": reply.thought[:400],
            "answer": reply.answer[:200],
        }
        for task, reply, ok in zip(tasks, replies, right, strict=True)
        if not ok
    )[:EXAMPLES_KEPT]


# Sets in which an adapter must not lose what the base could do.
KEPT_SETS = ("word_problem", "fact", "benign", "lookalike")


def compare(base: Result, adapter: Result) -> dict[str, Difference]:
    """Adapter minus base on the same prompts, for the skills that should be kept."""
    return {
        name: paired_difference(base.right[name], adapter.right[name])
        for name in KEPT_SETS
        if name in base.right and name in adapter.right
    }


def as_json(result: Result, differences: dict[str, Difference] | None = None) -> dict[str, object]:
    return {
        "scorer": SCORER,
        "shares": {name: asdict(share) for name, share in result.shares.items()},
        "difference_from_base": {n: asdict(d) for n, d in (differences or {}).items()},
        "wrong": result.wrong,
    }
