"""Training data of an adapter: the generated sets, or JSONL files of the user's.

A JSONL line is {"prompt", "completion"} or {"messages": [{"role", "content"}, …]} whose last
message is the assistant's. A completion may hold its thought up to `</think>`; the prompt already
opened it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from trainer.shared.batches import Pair
from trainer.shared.failure import Failure
from trainer.world import grammar
from trainer.world.grammar import Kind, Reply, Task

ROLES = ("system", "user", "assistant")
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


# --- JSONL -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    path: Path
    line: int

    def failure(self, rule: str, value: object, remedy: str) -> Failure:
        return Failure(f"{self.path}:{self.line}: {rule}; got {str(value)[:80]!r}; {remedy}")


def read_jsonl(path: Path) -> list[Pair]:
    if not path.is_file():
        raise Failure(
            f"--data must be a JSONL file; got {str(path)!r}, which is not there; give the path "
            'of a file with one {"prompt", "completion"} object a line'
        )
    pairs = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"{path}: data must be UTF-8; got byte {error.start}; convert it") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            pairs.append(parse_line(line, Place(path, number)))
    if not pairs:
        raise Failure(f"{path}: data must hold at least one example; got none; add lines")
    return pairs


def parse_line(line: str, place: Place) -> Pair:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise place.failure(
            "each line must be a JSON object", line, f"fix column {error.colno}: {error.msg}"
        ) from error
    if not isinstance(record, dict):
        raise place.failure("each line must be a JSON object", line, "write {…} on each line")
    if "messages" in record:
        return parse_messages(record["messages"], place)
    for key in ("prompt", "completion"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise place.failure(
                f'"{key}" must be a text that is not empty',
                record.get(key),
                'write {"prompt": "…", "completion": "…"} or {"messages": […]}',
            )
    return Pair((("user", record["prompt"]),), record["completion"])


def parse_messages(messages: object, place: Place) -> Pair:
    if not isinstance(messages, list) or len(messages) < 2:
        raise place.failure(
            '"messages" must be a list of two or more', messages, "add a user and an assistant turn"
        )
    turns = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(content, str):
            raise place.failure(
                f'a message must have a role of {", ".join(ROLES)} and a text "content"',
                message,
                "fix that message",
            )
        turns.append((role, content))
    if turns[-1][0] != "assistant":
        raise place.failure(
            "the last message must be the assistant's", turns[-1][0], "end with the reply to learn"
        )
    return Pair(tuple(turns[:-1]), turns[-1][1])


def digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 over the examples in order, whichever file or seed they came from."""
    rows = [[pair.messages, pair.completion] for pair in pairs]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()
