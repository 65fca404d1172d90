"""What a suite is given and what it returns. A new suite is a module with `run(context)`, a line in
`command.SUITES`, and flags of its own in `command.add_arguments`.

    def run(context: Context) -> Findings:
        loaded = context.read("gsm8k_test")
        rows = context.sample(loaded.rows, "gsm8k_test")
        items = [chat_item("gsm8k", row, "") for row in rows]
        for subject in context.subjects:
            asked = context.examiner.ask(subject, items, Settings(max_tokens=512))
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.suites.asking import Examiner
from trainer.suites.datasets import SETS, LoadedSet, Row, read_set
from trainer.suites.fetch import fetch
from trainer.suites.items import fixed_sample
from trainer.suites.measured import Measured
from trainer.suites.subjects import BASE, Subject


@dataclass(frozen=True)
class Context:
    examiner: Examiner
    subjects: Sequence[Subject]
    data: Path
    output: Path
    limit: int | None
    any_data: bool
    flags: argparse.Namespace  # all flags of the command, a suite's own among them

    def read(self, name: str) -> LoadedSet:
        """From the data folder; with --fetch, first into it where it is missing."""
        about = SETS[name]
        if self.flags.fetch and not (self.data / about.file).exists():
            fetch(about, self.data, self.flags.fetch_from, any_data=self.any_data)
        return read_set(name, self.data, any_data=self.any_data)

    def sample(self, rows: Sequence[Row], name: str) -> tuple[Row, ...]:
        """`--limit` of them, the same for all subjects and runs."""
        return fixed_sample(rows, self.limit, salt=name)


@dataclass(frozen=True)
class Findings:
    """All that results.json and the page are made of."""

    measured: Sequence[Measured]
    data: Sequence[LoadedSet]
    settings: Mapping[str, Any]
    judge: Mapping[str, Any]
    columns: Mapping[str, str]  # measure -> heading, in the page's order
    explanation: str  # how to read the page, in Markdown
    warnings: Sequence[str] = field(default_factory=tuple)
    summary: str = ""  # Markdown above the page's tables
    totals: Mapping[str, Any] = field(default_factory=dict)  # over sets, for results.json
    items: Mapping[str, Sequence[str]] = field(default_factory=dict)  # set -> ids of all asked
    base: str = BASE  # the subject that all others are compared with
