"""Which learning rate a configuration is judged at, by the validation loss on held-out refusals.

Among rates that have all learned to refuse, that loss keeps falling with the rate while everything
else is destroyed. So the choice is the lowest rate whose loss is within a tolerance of the best;
with a tolerance of 0 it is the lowest loss itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

# Nats a token. Over the 20 tokens of a refusal it is a fifth in its probability, and nothing in a
# greedy reply.
TOLERANCE = 0.01
# Rate -> lowest validation loss; None or a loss that is no number: training failed.
Losses = Mapping[float, float | None]


def chosen_rate(losses: Losses, tolerance: float = TOLERANCE) -> float:
    """The lowest rate that is good enough; also where every run failed."""
    known = {
        rate: math.inf if loss is None or math.isnan(loss) else loss
        for rate, loss in losses.items()
    }
    bound = min(known.values()) + tolerance
    return min(rate for rate, loss in known.items() if loss <= bound)


def extension(
    losses: Losses, planned: Sequence[float], ladder: Sequence[float], tolerance: float = TOLERANCE
) -> float | None:
    """One more rate, once, if the choice among the planned ones lies on the sweep's edge."""
    if any(rate not in losses for rate in planned) or set(losses) - set(planned):
        return None
    chosen = chosen_rate(losses, tolerance)
    if chosen == min(planned):
        index = ladder.index(chosen) - 1
    elif chosen == max(planned):
        index = ladder.index(chosen) + 1
    else:
        return None
    return ladder[index] if 0 <= index < len(ladder) else None
