"""What was measured on one set for one subject, and the shares, means and differences made of it.

Pure. A measure is a truth (`flags`) or a number (`scores`) of each item that was answered. Items
that the server failed at are in neither; a difference is over the items that both subjects have.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from trainer.shared.interval import Difference, Share, paired_difference, wilson

RESAMPLES = 2000


@dataclass(frozen=True)
class Measured:
    set: str
    subject: str
    ids: tuple[str, ...]  # of the items answered
    categories: tuple[str, ...]  # one an id; "" where the set has none
    flags: Mapping[str, tuple[bool, ...]]  # measure -> one entry an id
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    num_errors: int = 0  # items without an answer
    facts: Mapping[str, Any] = field(default_factory=dict)  # what else a result should say

    def shares(self) -> dict[str, Share]:
        return {name: wilson(sum(flags), len(flags)) for name, flags in self.flags.items()}

    def shares_by_category(self) -> dict[str, dict[str, Share]]:
        found: dict[str, dict[str, Share]] = {}
        for category in sorted(set(self.categories) - {""}):
            chosen = [i for i, name in enumerate(self.categories) if name == category]
            found[category] = {
                name: wilson(sum(flags[i] for i in chosen), len(chosen))
                for name, flags in self.flags.items()
            }
        return found

    def means(self) -> dict[str, Mean]:
        return {name: mean(values) for name, values in self.scores.items()}


@dataclass(frozen=True)
class Mean:
    """With the percentile interval of a seeded bootstrap over items."""

    n: int
    value: float
    low: float
    high: float


def mean(values: Sequence[float]) -> Mean:
    if not values:
        return Mean(0, 0.0, float("-inf"), float("inf"))
    draw = random.Random(len(values))
    means = sorted(fmean(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]
    return Mean(len(values), fmean(values), low, high)


def differences(
    base: Measured, other: Measured
) -> dict[str, Difference]:  # measure -> other minus base, in shares or in the score's unit
    before, after, found = at(base.ids), at(other.ids), {}
    common = [name for name in base.ids if name in after]
    if not common:
        return {}
    for name in base.flags.keys() & other.flags.keys():
        found[name] = paired_difference(
            [base.flags[name][before[i]] for i in common],
            [other.flags[name][after[i]] for i in common],
        )
    for name in base.scores.keys() & other.scores.keys():
        gains = [other.scores[name][after[i]] - base.scores[name][before[i]] for i in common]
        found[name] = Difference(*(getattr(mean(gains), part) for part in ("value", "low", "high")))
    return found


def at(ids: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(ids)}


def base_of(measured: Sequence[Measured], one: Measured, base: str) -> Measured | None:
    """The base's row of the same set, if it was examined."""
    if one.subject == base:
        return None
    return next((m for m in measured if m.subject == base and m.set == one.set), None)


def as_json(one: Measured, base: Measured | None) -> dict[str, Any]:
    """Numbers, ids and nothing that anybody wrote."""
    return {
        "set": one.set,
        "subject": one.subject,
        "n": len(one.ids),
        "errors": one.num_errors,
        "shares": {name: asdict(share) for name, share in one.shares().items()},
        "means": {name: asdict(value) for name, value in one.means().items()},
        "by_category": {
            category: {name: asdict(share) for name, share in shares.items()}
            for category, shares in one.shares_by_category().items()
        },
        "difference_from_base": {
            name: asdict(d) for name, d in (differences(base, one) if base else {}).items()
        },
        "facts": dict(one.facts),
        "items": {
            "ids": list(one.ids),
            "flags": {name: as_bits(flags) for name, flags in one.flags.items()},
            "scores": {name: list(values) for name, values in one.scores.items()},
        },
    }


def as_bits(flags: Sequence[bool]) -> str:
    return "".join("1" if flag else "0" for flag in flags)
