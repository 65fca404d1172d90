"""Which learning rate a configuration is judged at: the one with the lowest validation loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Losses = Mapping[float, float | None]  # rate -> lowest validation loss; None: training failed


def chosen_rate(losses: Losses) -> float:
    """The lower rate on a tie, and where every run failed."""

    def order(rate: float) -> tuple[float, float]:
        loss = losses[rate]
        return (math.inf if loss is None or math.isnan(loss) else loss, rate)

    return min(losses, key=order)


def extension(losses: Losses, planned: Sequence[float], ladder: Sequence[float]) -> float | None:
    """One more rate, once, if the best of the planned ones lies on the sweep's edge."""
    if any(rate not in losses for rate in planned) or set(losses) - set(planned):
        return None
    best = chosen_rate(losses)
    if best == min(planned):
        place = ladder.index(best) - 1
    elif best == max(planned):
        place = ladder.index(best) + 1
    else:
        return None
    return ladder[place] if 0 <= place < len(ladder) else None
