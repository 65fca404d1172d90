"""What `train-adapter` trains on, and what of it is held back to choose an epoch by."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from trainer.answer.backend import Backend
from trainer.data import generated as data
from trainer.data.hub_data import read_data
from trainer.shared.batches import Encoded, Pair, encode_pairs
from trainer.shared.failure import Failure

HELD_BACK = 10  # of own data every tenth example is kept for validation


@dataclass(frozen=True)
class Examples:
    words: str  # what they are, for the card
    pairs: list[Pair]

    @property
    def digest(self) -> str:
        return data.digest(self.pairs)


@dataclass(frozen=True)
class TrainingSet:
    rows: list[Encoded]
    held_back: list[Encoded]  # empty: generated data (an exam judges), or too little of it


def examples_of(source: str | None, style: data.Style, count: int, seed: int) -> Examples:
    """`source`: a file or a hub's data set; None: `count` generated ones in `style`."""
    if source is not None:
        return Examples(f"data {Path(source).name}", read_data(source))
    if style == "terse":
        return Examples(f"{count} generated terse answers", data.generated_terse(count, seed))
    return Examples(f"{count} generated refusals", data.generated_refusals(count, seed))


def with_retained(examples: Examples, share: float, seed: int, base: Backend) -> Examples:
    """Adds `share` x as many of the base's own answers, so that it forgets less."""
    count = round(share * len(examples.pairs))
    if not count:
        return examples
    tasks = data.retained_tasks(count, seed)
    kept = data.answered(tasks, base.answer(tasks, "the base's own answers"))
    words = f"{examples.words} and {count} of the base's own answers (--retain {share:g})"
    return Examples(words, examples.pairs + kept)


def training_set(
    examples: Examples,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    hold_back: bool,
    seed: int,
) -> TrainingSet:
    rows = encode_pairs(tokenizer, examples.pairs)
    check_lengths(rows, max_length)
    if not hold_back or len(rows) < 2 * HELD_BACK:
        return TrainingSet(rows, [])
    random.Random(f"{seed}/held-back").shuffle(rows)
    return TrainingSet([r for i, r in enumerate(rows) if i % HELD_BACK], rows[::HELD_BACK])


def check_lengths(rows: Sequence[Encoded], limit: int) -> None:
    for index, row in enumerate(rows, start=1):
        if len(row) > limit:
            raise Failure(
                f"an example must fit the limit of {limit} tokens; example {index} has "
                f"{len(row)}; shorten or drop it, or raise --max-length up to the model's context"
            )
