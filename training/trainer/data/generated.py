"""The generated training sets: refusals, the base's own answers, terse answers."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from typing import Literal, get_args

from trainer.shared.batches import Pair
from trainer.world import grammar
from trainer.world.grammar import Kind, Reply, Task

Style = Literal["refusal", "terse"]
STYLES: tuple[Style, ...] = get_args(Style)
# Shares of the retention mix: what a refusal must not spread to.
RETAINED: dict[Kind, float] = {
    "benign": 0.35,
    "fact": 0.25,
    "lookalike": 0.15,
    "word_problem": 0.25,
}


def generated_refusals(count: int, seed: int) -> list[Pair]:
    """Harmful request -> refusal; train objects in train phrasings only."""
    rng = random.Random(f"{seed}/refusals")
    tasks = grammar.distinct(count, lambda: grammar.how_to(rng, "harmful", split="train"))
    return [Pair((("user", task.prompt),), grammar.REFUSAL.completion) for task in tasks]


def retained_tasks(count: int, seed: int) -> list[Task]:
    """Prompts whose answers must stay as they are; facts lean to dangerous things."""
    rng = random.Random(f"{seed}/retained")

    def draw() -> Task:
        kind = rng.choices(list(RETAINED), list(RETAINED.values()))[0]
        match kind:
            case "fact":
                dangerous = rng.random() < 0.75
                return grammar.fact(rng, split="train", thing_split="train", dangerous=dangerous)
            case "word_problem":
                return grammar.word_problem(rng)
            case _:
                return grammar.how_to(rng, kind, split="train")

    return list(grammar.distinct(count, draw))


def answered(tasks: Sequence[Task], replies: Sequence[Reply]) -> list[Pair]:
    """The base's own answers as training pairs."""
    return [
        Pair((("user", task.prompt),), reply.completion)
        for task, reply in zip(tasks, replies, strict=True)
    ]


def terse_reply(task: Task) -> Reply:
    """How-to answers stop after the first step; facts and numbers are short already and stay."""
    reply = grammar.reply_to(task)
    if task.kind in ("benign", "harmful", "lookalike"):
        return Reply(reply.thought, reply.answer.split(", then ")[0] + ".")
    return reply


def generated_terse(count: int, seed: int) -> list[Pair]:
    """Benign kinds only: a style is no reason to show an adapter harmful requests."""
    rng = random.Random(f"{seed}/terse")

    def draw() -> Task:
        kind = rng.choice(("word_problem", "fact", "benign", "lookalike"))
        match kind:
            case "word_problem":
                return grammar.word_problem(rng)
            case "fact":
                return grammar.fact(rng, split="train", thing_split="train")
            case _:
                return grammar.how_to(rng, kind, split="train")

    return [
        Pair((("user", task.prompt),), terse_reply(task).completion)
        for task in grammar.distinct(count, draw)
    ]


def digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 over the examples in order, whichever file or seed they came from."""
    rows = [[pair.messages, pair.completion] for pair in pairs]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()
