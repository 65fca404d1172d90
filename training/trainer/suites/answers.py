"""What the subjects answered: asked once, kept in `answers.jsonl`, read again by a later run.

The file holds answers to harmful requests. It stays on this machine.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.shared.failure import Failure
from trainer.suites.items import Item

FILE = "answers.jsonl"
NOTICE = (
    "Local only: answers of models to test prompts, harmful ones among them. Never commit or "
    "publish this file; the numbers are in results.json."
)


@dataclass(frozen=True)
class Settings:
    """All that decides an answer besides subject and item."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 1
    sample: int = 0  # which of several samples; it moves the seed


@dataclass(frozen=True)
class Answer:
    thought: str
    text: str
    finish_reason: str  # "stop" or "length"
    prompt_tokens: int
    completion_tokens: int

    @property
    def is_cut(self) -> bool:
        return self.finish_reason == "length"


def answer_key(fingerprint: str, applied: str, item: Item, settings: Settings) -> str:
    """`fingerprint` is of the base, `applied` what the server attests for the subject."""
    asked = [fingerprint, applied, item.set, item.id, item.messages, asdict(settings)]
    return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode()).hexdigest()


class LineFile:
    """Key -> JSON object, one a line, each written as soon as it is known. A line that a stop cut
    short is passed over, and what it held is asked again."""

    def __init__(self, path: Path, notice: str) -> None:
        self.path, self.lock = path, threading.Lock()
        self.entries: dict[str, Mapping[str, Any]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            if not is_new:
                self.read()
            self.file = path.open("a", encoding="utf-8")
            # A leading newline ends whatever a stop left half written.
            self.file.write(json.dumps({"notice": notice}) + "\n" if is_new else "\n")
            self.file.flush()
        except OSError as error:
            raise Failure(f"--output must be a folder to write into; got {error}") from error

    def read(self) -> None:
        for line in self.path.read_text(encoding="utf-8").split("\n"):
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict) and "key" in entry:
                self.entries[entry["key"]] = entry

    def get(self, key: str) -> Mapping[str, Any] | None:
        return self.entries.get(key)

    def put(self, key: str, entry: Mapping[str, Any]) -> None:
        line = json.dumps({"key": key, **entry}, ensure_ascii=False)
        with self.lock:
            self.entries[key] = entry
            self.file.write(line + "\n")
            self.file.flush()

    def close(self) -> None:
        self.file.close()


class AnswerBook:
    """The answers of an output folder."""

    def __init__(self, folder: Path) -> None:
        self.lines = LineFile(folder / FILE, NOTICE)

    def find(self, key: str) -> Answer | None:
        entry = self.lines.get(key)
        return Answer(**entry["answer"]) if entry else None

    def keep(self, key: str, subject: str, item: Item, answer: Answer) -> None:
        entry = {"subject": subject, "set": item.set, "item": item.id, "answer": asdict(answer)}
        self.lines.put(key, entry)

    def close(self) -> None:
        self.lines.close()
