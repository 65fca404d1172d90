"""The base's own greedy answers to harmless prompts, kept in one file beside the runs.

An answer that is itself a refusal teaches nothing that should stay, and its prompt is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.recipes.screening import Answerer
from trainer.shared.io import json_lines
from trainer.suites.rule_judge import refuses

TOKENS = 12  # of each answer that are kept


class OwnAnswers:
    """Token ids by prompt; what is missing is asked of the base once and appended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, list[int]] = {}
        if path.is_file():
            self.found = {row["prompt"]: row["ids"] for row in json_lines(path)}

    def ask(self, prompts: Sequence[str], answerer: Callable[[], Answerer]) -> None:
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.found]
        if not missing:
            return
        base = answerer()
        ids = base.ids(missing, TOKENS)
        texts = base.tokenizer.batch_decode(ids)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            for prompt, answer, text in zip(missing, ids, texts, strict=True):
                kept = [] if refuses(text) else answer
                self.found[prompt] = kept
                file.write(json.dumps({"prompt": prompt, "ids": kept}, ensure_ascii=False) + "\n")

    def of(self, prompt: str) -> list[int] | None:
        """None: the base refused."""
        return self.found[prompt] or None
