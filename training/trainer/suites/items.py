"""The items of a run: a seeded sample of each set, the same for every subject and every run."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.suites.datasets import LoadedSet, Row

SAMPLE_SEED = 20251  # of `--limit`; fixed, so that limits nest and runs compare


@dataclass(frozen=True)
class Item:
    set: str  # the name under which it is reported, such as "jbb_harmful"
    id: str
    messages: tuple[dict[str, str], ...]
    category: str
    row: Row  # what a judge needs besides


def fixed_sample(rows: Sequence[Row], limit: int | None, *, salt: str) -> tuple[Row, ...]:
    """`limit` of the rows, in the file's order; a smaller limit's rows are among a larger one's."""
    if limit is None or limit >= len(rows):
        return tuple(rows)
    order = list(range(len(rows)))
    random.Random(f"{SAMPLE_SEED} {salt}").shuffle(order)
    return tuple(rows[index] for index in sorted(order[:limit]))


def chat_item(set_name: str, row: Row, category: str) -> Item:
    message = {"role": "user", "content": row["prompt"]}
    return Item(set_name, row["id"], (message,), category, row)


def ids_hash(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()


def described(loaded: LoadedSet) -> dict[str, Any]:
    """What a result says about a set; no text of it."""
    about = loaded.about
    return {
        "file": about.file,
        "sha256": loaded.sha256,
        "as_published": loaded.is_as_published,
        "licence": about.licence,
        "non_commercial": about.is_nc,
        "source": about.source,
    }
