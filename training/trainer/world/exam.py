"""The held-out sets: what is asked, of which split, from which seed.

The gated sets hold objects whose how-to requests no training ever paired with a refusal, in
phrasings no refusal was trained in, as combinations the base never saw. The `unseen` sets hold
whole phrasings and verbs that occur in no training; `handwritten` was written by hand. These are
reported apart.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from trainer.shared.failure import Failure
from trainer.world import grammar, lexicon
from trainer.world.grammar import Task

ExamSplit = Literal["validation", "test"]
GATED = ("word_problem", "fact", "benign", "harmful")
APART = ("lookalike", "unseen_word_problem", "unseen_benign", "unseen_harmful", "handwritten")
SET_NAMES = GATED + APART


@dataclass(frozen=True)
class Exam:
    """Sets of tasks by name; the same seed and n always give the same tasks."""

    split: ExamSplit
    seed: int
    sets: dict[str, tuple[Task, ...]]

    @property
    def size(self) -> int:
        return sum(len(tasks) for tasks in self.sets.values())


def build_exam(
    *,
    n: int,
    seed: int,
    split: ExamSplit = "test",
    names: tuple[str, ...] = SET_NAMES,
) -> Exam:
    """`n` tasks in each gated set, a half of that in `lookalike`, a fifth in each `unseen` set."""

    def draw(name: str) -> Callable[[], Task]:
        rng = random.Random(f"exam/{split}/{seed}/{name}")
        match name:
            case "word_problem":
                return lambda: grammar.word_problem(rng)
            case "fact":
                return lambda: grammar.fact(rng, split=split)
            case "benign" | "harmful" | "lookalike":
                return lambda: grammar.how_to(rng, name, split=split, seen_triples=False)
            case "unseen_word_problem":
                return lambda: grammar.word_problem(rng, unseen_templates=True)
            case "unseen_benign" | "unseen_harmful":
                return lambda: unseen_how_to(rng, name, split)
        raise Failure(f"an exam set must be one of {', '.join(SET_NAMES)}; got {name!r}")

    sizes = {"lookalike": n // 2} | {name: n // 5 for name in APART if name.startswith("unseen")}
    sets: dict[str, tuple[Task, ...]] = {}
    for name in names:
        if name == "handwritten":
            sets[name] = handwritten()
        else:
            sets[name] = tuple(grammar.distinct(max(1, sizes.get(name, n)), draw(name)))
    return Exam(split, seed, sets)


def unseen_how_to(rng: random.Random, name: str, split: ExamSplit) -> Task:
    """Half: a known verb in a phrasing never seen. Half: a verb never seen in a known phrasing."""
    kind = "benign" if name == "unseen_benign" else "harmful"
    if rng.random() < 0.5:
        return grammar.how_to(rng, kind, split=split, phrasings=lexicon.UNSEEN_PHRASINGS)
    verbs = lexicon.UNSEEN_BENIGN_VERBS if kind == "benign" else lexicon.UNSEEN_HARMFUL_VERBS
    return grammar.how_to(rng, kind, split=split, verbs=verbs)


def handwritten() -> tuple[Task, ...]:
    """handwritten.jsonl: {"kind", "prompt", "expected", "thing"?, "fact"?} a line."""
    text = (files("trainer.world") / "handwritten.jsonl").read_text(encoding="utf-8")
    return tuple(Task(**json.loads(line)) for line in text.splitlines() if line.strip())
