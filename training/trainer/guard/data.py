"""A user's judged conversations: JSONL files.

A line is {"messages" | "prompt", "response"?, "thought"?, "label", "category"?, "source"?}. The
label, "safe" or "unsafe", is of the response; of the thought where there is no response; of the
last user's message where there is neither. `messages` may end with the assistant's, which is the
response. `source` says where a text comes from, else its file does; losses are balanced by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from trainer.data.jsonl import ROLES, Line, lines_of, record_of
from trainer.guard.example import Example
from trainer.guard.marking import marked
from trainer.guard.material import Material, examples_sha256
from trainer.shared.failure import Failure

LABELS = {"safe": False, "unsafe": True}
TEXTS = ("prompt", "response", "thought", "category", "source")
SHAPE = '{"prompt": "…", "response": "…", "label": "safe"}'
PART = 5  # without a file of its own, every fifth prompt is for validation


def read_examples(path: Path, flag: str = "--data") -> list[Example]:
    found = [parse(text, line) for text, line in lines_of(path, flag, SHAPE)]
    labels = {e.prompt_unsafe for e in found} | {e.thought_unsafe for e in found}
    labels = (labels | {e.response_unsafe for e in found}) - {None}
    if len(labels) < 2:
        raise Failure(
            f"{path}: data must hold safe and unsafe examples; got "
            f"{len(found)} of one label; add lines of the other"
        )
    return found


def parse(text: str, line: Line) -> Example:
    record = record_of(text, line)
    if record.get("label") not in LABELS:
        raise line.failure('"label" must be "safe" or "unsafe"', record.get("label"), "write one")
    for key in TEXTS:
        if key in record and not isinstance(record[key], str):
            raise line.failure(f'"{key}" must be a text', record[key], f"write {SHAPE}")
    messages, response = conversation(record, line)
    thought, unsafe = record.get("thought"), LABELS[record["label"]]
    for key, value in (("response", response), ("thought", thought)):
        if value is not None and not value.strip():
            raise line.failure(f'"{key}" must not be empty', value, "write it or leave it out")
    is_prompt = response is None and thought is None
    return Example(
        messages=messages,
        prompt_unsafe=unsafe if is_prompt else None,
        thought=thought,
        thought_unsafe=unsafe if thought is not None else None,
        response=response,
        response_unsafe=unsafe if response is not None else None,
        category=record.get("category", ""),
        source=record.get("source", line.path.stem),
    )


def conversation(
    record: dict[str, Any], line: Line
) -> tuple[tuple[tuple[str, str], ...], str | None]:
    """The messages up to the reply, and the reply."""
    response = record.get("response")
    if ("messages" in record) == ("prompt" in record):
        raise line.failure(
            'a line must have one of "messages" and "prompt"', list(record), f"write {SHAPE}"
        )
    if "prompt" in record:
        if not record["prompt"].strip():
            raise line.failure('"prompt" must not be empty', record["prompt"], f"write {SHAPE}")
        return (("user", record["prompt"]),), response
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise line.failure('"messages" must be a list', messages, "add a user's turn")
    turns = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(content, str):
            raise line.failure(
                f'a message must have a role of {", ".join(ROLES)} and a text "content"', message,
                "fix that message",
            )  # fmt: skip
        turns.append((role, content))
    if turns[-1][0] == "assistant":
        if response is not None:
            raise line.failure(
                'a line must have its response once', response,
                'leave "response" out or end "messages" with the user\'s turn',
            )  # fmt: skip
        response = turns.pop()[1]
    if not turns or turns[-1][0] != "user":
        raise line.failure(
            "the turn before the response must be the user's", messages[-1], "add a user's turn"
        )
    return tuple(turns), response


def file_material(
    tokenizer: PreTrainedTokenizerBase,
    data: Path,
    validation: Path | None,
    test: Path | None,
    *,
    longest: int,
    seed: int,
) -> Material:
    examples = read_examples(data)
    if validation is None:
        train, valid = split(examples)
    else:
        train, valid = examples, read_examples(validation, "--validation")
    held_out = read_examples(test, "--test") if test else valid
    return Material(
        train=marked(tokenizer, train, longest=longest, seed=seed),
        validation=marked(tokenizer, valid, longest=longest),
        test=marked(tokenizer, held_out, longest=longest),
        words=f"{len(train)} judged conversations of {data.name}",
        sha256=examples_sha256(train),
    )


def split(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """By prompt, so that no prompt is on both sides."""
    order = {m: i for i, m in enumerate(sorted({e.messages for e in examples}))}
    valid = [e for e in examples if order[e.messages] % PART == 0]
    train = [e for e in examples if order[e.messages] % PART]
    if min(len(train), len(valid)) < 2:
        raise Failure(
            f"data must hold enough prompts to hold a fifth of them back; got {len(order)}; add "
            "lines, or give --validation"
        )
    return train, valid
