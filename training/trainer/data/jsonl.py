"""Training data of the user's: JSONL files.

A line is {"prompt", "completion"} or {"messages": [{"role", "content"}, …]} whose last message is
the assistant's. A completion may hold its thought up to `</think>`; the prompt already opened it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.shared.batches import Pair
from trainer.shared.failure import Failure

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Line:
    """Where a record stands, for the message when it is wrong."""

    path: Path
    number: int

    def failure(self, rule: str, value: object, remedy: str) -> Failure:
        return Failure(f"{self.path}:{self.number}: {rule}; got {str(value)[:80]!r}; {remedy}")


def read_jsonl(path: Path) -> list[Pair]:
    pairs = [
        parse_line(text, line)
        for text, line in lines_of(path, "--data", '{"prompt", "completion"} object')
    ]
    if not pairs:
        raise Failure(f"{path}: data must hold at least one example; got none; add lines")
    return pairs


def lines_of(path: Path, flag: str, shape: str) -> list[tuple[str, Line]]:
    """The lines that hold something, and where they stand. `shape`: of a line, in words."""
    if not path.is_file():
        raise Failure(
            f"{flag} must be a JSONL file; got {str(path)!r}, which is not there; give the path "
            f"of a file with one {shape} a line"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"{path}: data must be UTF-8; got byte {error.start}; convert it") from error
    # No other separator: a JSON text may hold a U+2028 as it is.
    lines = enumerate(text.split("\n"), start=1)
    return [(line, Line(path, number)) for number, line in lines if line.strip()]


def record_of(text: str, line: Line) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise line.failure(
            "each line must be a JSON object", text, f"fix column {error.colno}: {error.msg}"
        ) from error
    if not isinstance(record, dict):
        raise line.failure("each line must be a JSON object", text, "write {…} on each line")
    return record


def parse_line(text: str, line: Line) -> Pair:
    record = record_of(text, line)
    if "messages" in record:
        return parse_messages(record["messages"], line)
    for key in ("prompt", "completion"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise line.failure(
                f'"{key}" must be a text that is not empty',
                record.get(key),
                'write {"prompt": "…", "completion": "…"} or {"messages": […]}',
            )
    return Pair((("user", record["prompt"]),), record["completion"])


def parse_messages(messages: object, line: Line) -> Pair:
    if not isinstance(messages, list) or len(messages) < 2:
        raise line.failure(
            '"messages" must be a list of two or more', messages, "add a user and an assistant turn"
        )
    turns = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(content, str):
            raise line.failure(
                f'a message must have a role of {", ".join(ROLES)} and a text "content"',
                message,
                "fix that message",
            )
        turns.append((role, content))
    if turns[-1][0] != "assistant":
        raise line.failure(
            "the last message must be the assistant's", turns[-1][0], "end with the reply to learn"
        )
    return Pair(tuple(turns[:-1]), turns[-1][1])
