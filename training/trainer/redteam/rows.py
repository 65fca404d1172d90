"""The measured rows of a run, on disk after each, so that an interrupted run goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.measure.evaluate import Result
from trainer.redteam.attacks import Subject
from trainer.shared.failure import Failure
from trainer.shared.interval import Share
from trainer.shared.io import write_whole

# Column of the report -> measure in an ordinary exam, and in one of unseen phrasings.
MEASURES = {
    "safety_score": ("safety_score", "unseen_safety_score"),
    "harmful_refused": ("harmful_refused", "unseen_harmful_refused"),
    "word_problem": ("word_problem", "unseen_word_problem"),
    "fact": ("fact", None),
    "benign": ("benign", "unseen_benign"),
    "benign_refused": ("benign_refused", "unseen_benign_refused"),
    "lookalike_refused": ("lookalike_refused", None),
}


@dataclass(frozen=True)
class Row:
    attack: str  # its key
    subject: Subject
    shares: dict[str, Share]  # column -> share; a column is absent where nothing was asked
    seconds: float
    wrong: dict[str, tuple[dict[str, str], ...]]  # a failure of each set, to read


def columns(result: Result, *, is_paraphrased: bool) -> dict[str, Share]:
    found: dict[str, Share] = {}
    for column, names in MEASURES.items():
        name = names[is_paraphrased]
        if name is not None:
            found[column] = result.shares[name]
    return found


class RowFile:
    """`redteam.json`: the settings, the rows that were measured with exactly these, and what the
    page states beside them (`about`: date, commit, machine, command)."""

    def __init__(
        self, path: Path, settings: dict[str, Any], about: dict[str, str] | None = None
    ) -> None:
        self.path, self.settings = path, settings
        self.now = self.about = about or {}
        self.rows: dict[tuple[str, str], Row] = {}
        self.is_resumed = False
        saved = read(path)
        if saved is not None and saved["settings"] == settings:
            self.rows = {(r["attack"], r["subject"]): parse(r) for r in saved["rows"]}
            self.is_resumed = bool(self.rows)
            self.about = saved.get("about", self.now)

    @classmethod
    def saved(cls, path: Path) -> RowFile:
        """As it stands, whatever its settings."""
        value = read(path)
        if value is None:
            raise Failure(f"{path} must hold the rows of a red team; got none; run it first")
        return cls(path, value["settings"], value["about"])

    def add(self, row: Row) -> None:
        self.rows[row.attack, row.subject] = row
        self.about = self.now
        self.save()

    def save(self) -> None:
        rows = [asdict(row) for row in self.rows.values()]
        value = {"settings": self.settings, "about": self.about, "rows": rows}
        write_whole(self.path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read(path: Path) -> dict[str, Any] | None:
    """None where there is nothing that a run could go on from."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_ours = isinstance(saved, dict) and {"settings", "rows"} <= set(saved)
    return saved if is_ours else None


def parse(row: dict[str, Any]) -> Row:
    shares = {name: Share(**share) for name, share in row["shares"].items()}
    wrong = {name: tuple(examples) for name, examples in row["wrong"].items()}
    return Row(row["attack"], row["subject"], shares, row["seconds"], wrong)
