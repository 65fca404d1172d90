"""The texts of a training run: what trains, what calibrates, what is held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from trainer.guard.example import Example, Marked


@dataclass(frozen=True)
class Material:
    train: list[Marked]
    validation: list[Marked]
    test: list[Marked]
    words: str  # what the training texts are
    sha256: str  # over the training examples, in order


def examples_sha256(examples: Sequence[Example]) -> str:
    rows = [asdict(example) for example in examples]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()
