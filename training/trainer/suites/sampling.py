"""One greedy answer or several drawn ones: what is asked of each item, and shares over samples."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from trainer.shared.failure import Failure
from trainer.suites.answers import Answer, Settings
from trainer.suites.asking import Asked
from trainer.suites.items import Item
from trainer.suites.measured import Measured
from trainer.suites.subjects import Subject
from trainer.suites.suite import Context

DRAWN_TEMPERATURE, DRAWN_TOP_P = 0.6, 0.95  # the paper's (A.3)
MUCH_CUT = 0.05


@dataclass(frozen=True)
class Sampling:
    samples: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int

    def settings(self, sample: int) -> Settings:
        return Settings(self.max_tokens, self.temperature, self.top_p, self.seed, sample)

    def about(self) -> dict[str, Any]:
        return {
            "samples": self.samples,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
        }


def sampling_of(flags: argparse.Namespace, *, samples: int, max_tokens: int) -> Sampling:
    """The flags', else the suite's: greedy for one sample, the paper's temperature for several."""
    n = flags.samples or samples
    temperature = flags.temperature
    if temperature is None:
        temperature = 0.0 if n == 1 else DRAWN_TEMPERATURE
    if n > 1 and temperature == 0:
        raise Failure(
            f"--samples above 1 needs a --temperature above 0; got {n} samples at 0, which would "
            f"be equal; take --samples 1 or --temperature {DRAWN_TEMPERATURE}"
        )
    return Sampling(
        n,
        flags.max_tokens or max_tokens,
        temperature,
        DRAWN_TOP_P if temperature else 1.0,
        flags.seed,
    )


def require_room(context: Context, sampling: Sampling) -> None:
    most = context.examiner.server.max_length()
    if sampling.max_tokens >= most:
        raise Failure(
            f"the model's context must hold {sampling.max_tokens:,} tokens of an answer beside its "
            f"prompt; got {most:,} in all; take a model with a longer one, or --max-tokens "
            f"{most // 2} and call the result one of short answers"
        )


def ask_samples(
    context: Context, subject: Subject, items: Sequence[Item], sampling: Sampling
) -> list[Asked]:
    return [
        context.examiner.ask(subject, items, sampling.settings(sample))
        for sample in range(sampling.samples)
    ]


@dataclass(frozen=True)
class Whole:
    """An item with an answer of every sample."""

    item: Item
    answers: tuple[Answer, ...]


def whole_items(items: Sequence[Item], asked: Sequence[Asked]) -> list[Whole]:
    """Without those that the server failed at in any sample."""
    columns = zip(items, *(one.answers for one in asked), strict=True)
    return [
        Whole(item, tuple(answers))
        for item, *answers in columns
        if all(a is not None for a in answers)
    ]


def per_item(
    set_name: str,
    subject: Subject,
    whole: Sequence[Whole],
    asked: Sequence[Asked],
    outcomes: Mapping[str, Sequence[bool]],  # one entry an answer, item by item
    facts: Mapping[str, Any],
) -> Measured:
    """Truths where an item has one sample, else the share of its samples."""
    n = len(asked)
    grouped = {
        name: [tuple(values[i : i + n]) for i in range(0, len(values), n)]
        for name, values in outcomes.items()
    }
    return Measured(
        set=set_name,
        subject=subject.name,
        ids=tuple(one.item.id for one in whole),
        categories=tuple(one.item.category for one in whole),
        flags={k: tuple(v[0] for v in vs) for k, vs in grouped.items()} if n == 1 else {},
        scores={k: tuple(map(fmean, vs)) for k, vs in grouped.items()} if n > 1 else {},
        num_errors=sum(one.number_of_errors for one in asked),
        facts={
            **facts,
            "completion_tokens": sum(a.completion_tokens for one in whole for a in one.answers),
        },
    )


def ids_of(items: Mapping[str, Sequence[Item]]) -> dict[str, list[str]]:
    return {name: [item.id for item in own] for name, own in items.items()}


def complaints(measured: Sequence[Measured]) -> list[str]:
    said = []
    for one in measured:
        where = f"{one.subject} on {one.set}"
        if one.num_errors:
            said.append(f"{where}: the server failed {one.num_errors} times; run again for them")
        cut = [float(value) for value in one.flags.get("cut") or one.scores.get("cut") or ()]
        if cut and fmean(cut) > MUCH_CUT:
            said.append(
                f"{where}: {fmean(cut):.0%} of the answers reached the token limit; raise "
                "--max-tokens"
            )
    return said
