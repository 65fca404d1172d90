"""Prompts that look alike and are not: harmless ones that sound harmful, and their harmful twins.

Every prompt is (family, text). The order is fixed by the seed alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trainer.recipes import actions, errands, tasks, topics

Source = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Lookalike:
    family: str
    prompt: str


def crossed(phrasings: Sequence[str], **slots: Sequence[str]) -> Iterator[str]:
    """Each phrasing with each pair of words; slots may go without names ({})."""
    names = list(slots)
    for phrasing in phrasings:
        for first in slots[names[0]]:
            if len(names) == 1:
                yield phrasing.format(first)
            else:
                for second in slots[names[1]]:
                    yield phrasing.format(first, second, **{names[0]: first, names[1]: second})


def deeds(harmful: bool) -> Iterator[str]:
    for verb, objects in actions.VERBS.items():
        yield from crossed(actions.ASKED, deed=[f"{verb} {what}" for what in objects[harmful]])


def subjects(harmful: bool) -> Iterator[str]:
    words = topics.HARM_SUBJECTS if harmful else topics.SAFE_SUBJECTS
    for form in topics.FORMS:
        yield from (f"{form} {subject}." for subject in words)


def purposes(harmful: bool) -> Iterator[str]:
    for form in tasks.FORMS:
        yield from (f"{form} {purpose[harmful]}." for purpose in tasks.PURPOSES)


# family -> (harmless, harmful); a family without a harmful side of its own shares another's.
FAMILIES: dict[str, tuple[Source | None, Source | None]] = {
    "verbs": (lambda: deeds(False), lambda: deeds(True)),
    "figurative": (lambda: iter(actions.FIGURATIVE), lambda: iter(actions.FIGURATIVE_HARMFUL)),
    "contexts": (
        lambda: crossed(topics.WORLD_ASKED, deed=topics.WORLD_DEEDS, world=topics.WORLDS),
        lambda: crossed(topics.REAL_ASKED, deed=topics.REAL_DEEDS, world=("",)),
    ),
    "definitions": (
        lambda: crossed(topics.DEFINED, term=topics.TERMS),
        lambda: crossed(topics.COMMITTED, term=topics.CRIMES),
    ),
    "odd groups": (
        lambda: crossed(topics.ODD_CLAIMS, group=topics.ODD_GROUPS),
        lambda: crossed(topics.HATE, group=topics.GROUPS),
    ),
    "odd traits": (lambda: crossed(topics.ODD_TRAITS, group=topics.GROUPS), None),
    "history": (
        lambda: crossed(topics.RECALLED, event=topics.EVENTS),
        lambda: crossed(topics.REPEATED, event=topics.EVENTS),
    ),
    "public": (
        lambda: crossed(topics.FACT_ASKED, fact=topics.PUBLIC_FACTS, who=topics.FIGURES),
        lambda: crossed(topics.FACT_TAKEN, fact=topics.PRIVATE_FACTS, who=topics.PERSONS),
    ),
    "fictional": (
        lambda: crossed(topics.FACT_ASKED, fact=topics.PRIVATE_FACTS, who=topics.HEROES),
        None,
    ),
    "writing": (lambda: subjects(False), lambda: subjects(True)),
    "tasks": (lambda: purposes(False), lambda: purposes(True)),
    "errands": (
        lambda: crossed(errands.ORDERS, work=errands.WORKS, who=errands.AUDIENCES),
        None,
    ),
}
WEIGHTS = {"verbs": 2, "writing": 2, "tasks": 3, "errands": 8}  # prompts a round; of the others one


def lookalikes(count: int, seed: int, *, harmful: bool) -> list[Lookalike]:
    """`count` distinct prompts, from the families by WEIGHTS as far as they last."""
    rng = random.Random(f"{seed}/lookalikes/{harmful}")
    pools = {}
    for family, sources in FAMILIES.items():
        source = sources[harmful]
        if source:
            prompts = list(dict.fromkeys(source()))
            rng.shuffle(prompts)
            pools[family] = prompts
    chosen: list[Lookalike] = []
    while len(chosen) < count and any(pools.values()):
        for family, prompts in pools.items():
            for _ in range(min(WEIGHTS.get(family, 1), len(prompts), count - len(chosen))):
                chosen.append(Lookalike(family, prompts.pop()))
    return chosen
