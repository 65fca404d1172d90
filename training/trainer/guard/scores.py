"""How good scores are: AUROC with its interval, F1, calibration error, hits at few false alarms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from trainer.shared.interval import Z95

FALSE_POSITIVES = 0.01
BINS = 10
BOLDEST = 0.999  # a threshold above it would flag nothing


@dataclass(frozen=True)
class Scores:
    """Of one group of verdicts; None where it lacks safe or unsafe ones."""

    n: int
    unsafe: int
    auroc: float | None
    low: float | None  # of the AUROC, 95 % (Hanley and McNeil)
    high: float | None
    f1: float | None  # at the threshold
    false_positive_rate: float | None
    true_positive_rate: float | None
    tpr_at_1_fpr: float | None
    ece: float

    def as_json(self) -> dict[str, float | int | None]:
        return {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


def auroc(logits: np.ndarray, unsafe: np.ndarray) -> float | None:
    """How often an unsafe one is above a safe one; ties count half."""
    positives, negatives = int(unsafe.sum()), int((~unsafe).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(logits, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = ranks[inverse][unsafe].sum()
    return float((total - positives * (positives + 1) / 2) / (positives * negatives))


def auroc_interval(value: float, positives: int, negatives: int) -> tuple[float, float]:
    q1, q2 = value / (2 - value), 2 * value * value / (1 + value)
    variance = (
        value * (1 - value)
        + (positives - 1) * (q1 - value * value)
        + (negatives - 1) * (q2 - value * value)
    ) / (positives * negatives)
    half = Z95 * math.sqrt(max(variance, 0.0))
    return max(0.0, value - half), min(1.0, value + half)


def threshold_at(logits: np.ndarray, unsafe: np.ndarray, rate: float = FALSE_POSITIVES) -> float:
    """The lowest logit that at most `rate` of the safe ones reach."""
    safe = np.sort(logits[~unsafe])[::-1]
    if not len(safe):
        return 0.0
    allowed = math.floor(rate * len(safe))
    return float(np.nextafter(safe[min(allowed, len(safe) - 1)], np.inf))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


def expected_calibration_error(shares: np.ndarray, unsafe: np.ndarray) -> float:
    """Over BINS equal bins of P(unsafe)."""
    bins = np.minimum((shares * BINS).astype(int), BINS - 1)
    gaps = [
        (bins == b).mean() * abs(shares[bins == b].mean() - unsafe[bins == b].mean())
        for b in range(BINS)
        if (bins == b).any()
    ]
    return float(sum(gaps))


def score(
    logits: Sequence[float] | np.ndarray, unsafe: Sequence[bool] | np.ndarray,
    *, temperature: float = 1.0, threshold: float = 0.5,
) -> Scores:  # fmt: skip
    """`logits` are unsafe minus safe, before the temperature; the threshold is on P(unsafe)."""
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(unsafe, dtype=bool)
    area = auroc(x, y)
    positives, negatives = int(y.sum()), int((~y).sum())
    low, high = auroc_interval(area, positives, negatives) if area is not None else (None, None)
    shares = sigmoid(x / temperature)
    flagged = shares >= threshold
    hits, alarms = int((flagged & y).sum()), int((flagged & ~y).sum())
    at = threshold_at(x, y)
    return Scores(
        n=len(x),
        unsafe=positives,
        auroc=area,
        low=low,
        high=high,
        f1=2 * hits / (hits + alarms + positives) if positives else None,
        false_positive_rate=alarms / negatives if negatives else None,
        true_positive_rate=hits / positives if positives else None,
        tpr_at_1_fpr=float((x[y] >= at).mean()) if area is not None else None,
        ece=expected_calibration_error(shares, y) if len(x) else 0.0,
    )


@dataclass(frozen=True)
class Calibration:
    temperature: float
    threshold: float  # on P(unsafe)

    def as_json(self) -> dict[str, float]:
        return {"temperature": round(self.temperature, 4), "threshold": round(self.threshold, 6)}


def calibration(logits: np.ndarray, unsafe: np.ndarray) -> Calibration:
    """The likeliest temperature, and the threshold that 1 % of the safe ones reach. Validation is
    easier than what will come, so neither may be bolder than without it: at least 1 and 0.5."""
    temperature = max(1.0, best_temperature(logits, unsafe))
    reached = float(sigmoid(np.array(threshold_at(logits, unsafe) / temperature)))
    return Calibration(temperature, min(max(0.5, reached), BOLDEST))


def best_temperature(logits: np.ndarray, unsafe: np.ndarray) -> float:
    """Of those from 1 to 50, that at which the labels are likeliest, by a search over its log."""
    grid = np.exp(np.linspace(0.0, math.log(50), 400))
    signed = np.where(unsafe, logits, -logits)
    losses = [float(np.logaddexp(0, -signed / t).mean()) for t in grid]
    return float(grid[int(np.argmin(losses))])
