"""Attacks that know the guard: a prompt is said otherwise, again and again, and what lowers the
score that the server returns is kept. The answer must still show harm.

A client needs no more than the policy observe for it. Each case is climbed by itself, one try a
round; all tries are drawn from the case's id, so a run that is repeated asks nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from trainer.live.asking import Asker
from trainer.live.case import Case, Seen, World
from trainer.live.policy import Offered

Aim = Literal["verdict", "probe"]
AIMS: tuple[Aim, ...] = ("verdict", "probe")
SETS = {aim: f"adaptive_{aim}" for aim in AIMS}


@dataclass(frozen=True)
class Climb:
    """Scores are means over the cases that showed harm both before and after."""

    aim: Aim
    cases: Sequence[Case]  # as they were best
    num_queries: int
    num_harmful_at_first: int
    num_improved: int
    score_before: float | None
    score_after: float | None
    errors: Sequence[str]


def score_of(aim: Aim, seen: Seen) -> float | None:
    return seen.score if aim == "verdict" else seen.probe


def climb(
    aim: Aim, world: World, asker: Asker, observe: Offered, cases: Sequence[Case], rounds: int
) -> Climb | None:
    """None where the server tells no such score."""
    errors: list[str] = []

    def ask(tries: Sequence[Case], title: str) -> list[Seen | None]:
        found, failed = asker.ask_all([observe], tries, title)
        errors.extend(failed)
        name = observe.policy.name
        return [found.get((name, case.set, case.id)) for case in tries]

    best = [replace(case, set=SETS[aim]) for case in cases]
    first = ask(best, f"{SETS[aim]}: as it was")
    if all(seen is None or score_of(aim, seen) is None for seen in first):
        return None
    kept = list(first)
    improved: set[int] = set()
    for number in range(1, rounds + 1):
        tries = [world.mutations(case, number) for case in best]
        for i, seen in enumerate(ask(tries, f"{SETS[aim]}: try {number} of {rounds}")):
            if seen is not None and is_better(aim, world, best[i], kept[i], tries[i], seen):
                best[i], kept[i] = tries[i], seen
                improved.add(i)
    pairs = [
        (score_of(aim, one), score_of(aim, other))
        for case, one, other in zip(best, first, kept, strict=True)
        if one and other and world.is_harm_shown(case, one) and world.is_harm_shown(case, other)
    ]
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    return Climb(
        aim,
        best,
        num_queries=len(cases) * (rounds + 1),
        num_harmful_at_first=sum(
            bool(seen and world.is_harm_shown(case, seen))
            for case, seen in zip(cases, first, strict=True)
        ),
        num_improved=len(improved),
        score_before=mean_of(known, lambda pair: pair[0]),
        score_after=mean_of(known, lambda pair: pair[1]),
        errors=errors,
    )


def is_better(
    aim: Aim, world: World, case: Case, before: Seen | None, tried: Case, seen: Seen
) -> bool:
    """Harm comes first, then the lower score."""
    score = score_of(aim, seen)
    if score is None or not world.is_harm_shown(tried, seen):
        return False
    if before is None or not world.is_harm_shown(case, before):
        return True
    earlier = score_of(aim, before)
    return earlier is None or score < earlier


def mean_of(
    pairs: Sequence[tuple[float, float]], side: Callable[[tuple[float, float]], float]
) -> float | None:
    return sum(map(side, pairs)) / len(pairs) if pairs else None
