"""Verdicts on one difference with its interval. Pure.

A verdict needs its whole 95 % interval on one side: "held" or "not held"; everything else is
"undecided", and says what was seen. A difference counts from `MARGIN` on: "on par" allows less
than that, and a "better" whose interval lies within it on both sides is not held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.reproduce.numbers.estimate import Estimate

Verdict = Literal["held", "not held", "undecided"]
MARGIN = 0.05


@dataclass(frozen=True)
class Finding:
    """One comparison, its verdict and its numbers in words."""

    verdict: Verdict
    numbers: str


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """All must hold; one that does not is enough."""
    if "not held" in verdicts:
        return "not held"
    return "undecided" if "undecided" in verdicts or not verdicts else "held"


def better(difference: Estimate, margin: float = MARGIN) -> Verdict:
    if difference.low > 0:
        return "held"
    if difference.high < 0 or (difference.low > -margin and difference.high < margin):
        return "not held"
    return "undecided"


def not_worse(difference: Estimate, margin: float = MARGIN) -> Verdict:
    if difference.low > -margin:
        return "held"
    return "not held" if difference.high < -margin else "undecided"
