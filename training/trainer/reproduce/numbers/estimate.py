"""Means over seeds with 95 % intervals that cover both what the seed and what the prompts decide.

All runs answer the same prompts, so more seeds do not make the prompts more: the prompts' part is
the interval of one run (Wilson; Newcombe for a paired difference), the seeds' part a t interval
over the runs' means, and the two are added as independent errors. With one seed only the first
is there, and `seeds` says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from trainer.shared.interval import Z95, paired_difference, percent, points, wilson

# Student's t at 97.5 % by degrees of freedom; beyond these the normal value is 4 % short at most.
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179)


@dataclass(frozen=True)
class Estimate:
    value: float
    low: float
    high: float
    n: int  # prompts; 0 where none are involved
    seeds: int


def share(bits: str) -> float:
    return bits.count("1") / len(bits) if bits else 0.0


def mean_share(runs: Sequence[str]) -> float:
    return fmean(share(bits) for bits in runs)


def seed_half_width(values: Sequence[float]) -> float:
    """Half of the t interval of the mean; 0 for a single value, which has none."""
    count = len(values)
    if count < 2:
        return 0.0
    t = T975[count - 2] if count - 2 < len(T975) else Z95
    return t * stdev(values) / math.sqrt(count)


def over_seeds(values: Sequence[float]) -> Estimate:
    """A mean in which no prompts are involved."""
    half = seed_half_width(values)
    mean = fmean(values)
    return Estimate(mean, mean - half, mean + half, 0, len(values))


def estimated(runs: Sequence[str]) -> Estimate:
    """Each run: one "0" or "1" a prompt, the same prompts."""
    n, mean = len(runs[0]), mean_share(runs)
    prompts = wilson(round(mean * n), n)
    seeds = seed_half_width([share(bits) for bits in runs])
    return Estimate(
        mean,
        max(0.0, mean - math.hypot(prompts.value - prompts.low, seeds)),
        min(1.0, mean + math.hypot(prompts.high - prompts.value, seeds)),
        n,
        len(runs),
    )


def paired_runs(before: Sequence[str], after: Sequence[str]) -> list[tuple[str, str]]:
    """Seed by seed; a single run, such as the base's, stands against each."""
    count = max(len(before), len(after))
    if len(before) == 1:
        before = [before[0]] * count
    if len(after) == 1:
        after = [after[0]] * count
    return list(zip(before, after, strict=True))


def contrast(before: Sequence[str], after: Sequence[str]) -> Estimate:
    """`after` minus `before`."""
    pairs = paired_runs(before, after)
    found = [paired_difference(as_flags(one), as_flags(other)) for one, other in pairs]
    value = fmean(entry.value for entry in found)
    below = fmean(entry.value - entry.low for entry in found)
    above = fmean(entry.high - entry.value for entry in found)
    seeds = seed_half_width([entry.value for entry in found])
    return Estimate(
        value,
        max(-1.0, value - math.hypot(below, seeds)),
        min(1.0, value + math.hypot(above, seeds)),
        len(pairs[0][0]),
        len(pairs),
    )


def as_flags(bits: str) -> list[bool]:
    return [bit == "1" for bit in bits]


def negated(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low, estimate.n, estimate.seeds)


def averaged(differences: Sequence[Estimate]) -> Estimate:
    """Mean of differences on different prompts."""
    mean = fmean(d.value for d in differences)
    half = sum(((d.high - d.low) / 2) ** 2 for d in differences) ** 0.5 / len(differences)
    return Estimate(mean, mean - half, mean + half, differences[0].n, differences[0].seeds)


# --- in words ----------------------------------------------------------------------------------


def in_percent(estimate: Estimate) -> str:
    return percent(estimate, end="")


def in_points(difference: Estimate) -> str:
    return points(difference, " points")


def number(estimate: Estimate, digits: int = 2) -> str:
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
