"""Calibration on validation and certification on held-out texts, one carrier after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainer.fit.completion_loss import causal_model
from trainer.guard.carrier import Carrier, carried
from trainer.guard.example import PARTS, Marked, Part
from trainer.guard.fitting import margins
from trainer.guard.reading import read_texts
from trainer.guard.scores import Calibration, calibration, score
from trainer.guard.verdict import Tokens

CHUNK = 256  # texts whose keys and values are in memory at once
LENGTHS = ((1, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 128), (129, 100_000))
FEWEST = 20  # validation verdicts of a part, safe or unsafe, that a threshold of its own needs


@dataclass(frozen=True)
class Verdict:
    """One mark with the guard's margin: unsafe minus safe."""

    source: str
    category: str
    part: Part
    read: int
    unsafe: bool
    margin: float


def judged(
    model: nn.Module,
    rows: Sequence[Marked],
    carrier: Carrier,
    tokens: Tokens,
    *,
    dtype: torch.dtype,
    full_pass: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[list[Verdict], Tensor]:
    """Every mark's verdict, and the residual stream at the token before it
    [marks, layers, hidden]."""
    verdicts: list[Verdict] = []
    features: list[Tensor] = []
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        with carried(causal_model(model), carrier, dtype) as reader:
            reads = read_texts(reader, chunk, features=True)
        found = margins(model, chunk, None if full_pass else reads, tokens)
        for row, read, values in zip(chunk, reads, found, strict=True):
            verdicts += [
                Verdict(row.example.source, row.example.category, m.part, m.read, m.unsafe, value)
                for m, value in zip(row.marks, values, strict=True)
            ]
            features.append(read.residual)
        advance(len(chunk))
    return verdicts, torch.cat(features)


def arrays(verdicts: Sequence[Verdict]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([v.margin for v in verdicts], dtype=np.float64),
        np.array([v.unsafe for v in verdicts], dtype=bool),
    )


def calibrated(verdicts: Sequence[Verdict]) -> Calibration:
    return calibration(*arrays(verdicts))


def calibrated_parts(verdicts: Sequence[Verdict]) -> dict[str, Calibration]:
    """Of each part with enough of both kinds."""
    found = {}
    for part in PARTS:
        mine = [v for v in verdicts if v.part == part]
        unsafe = sum(v.unsafe for v in mine)
        if min(unsafe, len(mine) - unsafe) >= FEWEST:
            found[part] = calibrated(mine)
    return found


@dataclass(frozen=True)
class Certified:
    carrier: Carrier
    whole: Calibration
    parts: dict[str, Calibration]
    test: list[Verdict]

    def of(self, part: str) -> Calibration:
        return self.parts.get(part, self.whole)

    def scores(self, verdicts: Iterable[Verdict]) -> dict[str, Any]:
        """Each verdict as P(unsafe) by its own part's temperature, against that part's threshold.
        Pooled over parts they are compared as margins over their temperatures."""
        mine = list(verdicts)
        logits = np.array([v.margin / self.of(v.part).temperature for v in mine])
        parts = {v.part for v in mine}
        if len(parts) == 1:
            at = self.of(parts.pop()).threshold
            return score(logits, [v.unsafe for v in mine], threshold=at).as_json()
        found = score(logits, [v.unsafe for v in mine], threshold=self.whole.threshold)
        return found.as_json()

    def report(self) -> dict[str, Any]:
        """All held-out results of this carrier, by source and part, category and prefix length."""
        test = self.test
        sources = sorted({v.source for v in test})
        parts = [part for part in PARTS if any(v.part == part for v in test)]
        return {
            "all": self.scores(test),
            "parts": {part: self.scores(v for v in test if v.part == part) for part in parts},
            "sources": {
                source: {
                    part: self.scores(v for v in test if v.part == part and v.source == source)
                    for part in parts
                    if any(v.part == part and v.source == source for v in test)
                }
                for source in sources
            },
            "categories": {
                category: self.scores(v for v in test if v.category == category)
                for category in sorted({v.category for v in test})
            },
            "lengths": {
                part: {
                    f"{low}-{high}" if high < 100_000 else f"{low}+": self.scores(mine)
                    for low, high in LENGTHS
                    if (mine := [v for v in test if v.part == part and low <= v.read <= high])
                }
                for part in parts
                if part != "prompt"
            },
        }
