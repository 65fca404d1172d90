"""What is learned in the benchmark: random tokens in lengths that refusal data has, or all alike.

    equal    128 tokens, 30 of them completion
    spread   prompts with the template: log-normal, median 35, sigma 0.7, cut to 10-300 tokens;
             completions evenly between 25 and 40

The lengths are the distribution's own quantiles, not draws: few rows stand for many.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, get_args

from trainer.shared.batches import Encoded

Workload = Literal["equal", "spread"]
WORKLOADS: tuple[Workload, ...] = get_args(Workload)
EQUAL_PROMPT, EQUAL_COMPLETION = 98, 30
MEDIAN, SIGMA, SHORTEST, LONGEST = 35, 0.7, 10, 300
COMPLETION_FROM, COMPLETION_TO = 25, 40


def lengths_of(workload: Workload, count: int, seed: int) -> list[tuple[int, int]]:
    """Tokens of each row's prompt and completion."""
    if workload == "equal":
        return [(EQUAL_PROMPT, EQUAL_COMPLETION)] * count
    shares = [(i + 0.5) / count for i in range(count)]
    exact = [MEDIAN * math.exp(SIGMA * NormalDist().inv_cdf(share)) for share in shares]
    prompts = [min(LONGEST, max(SHORTEST, round(tokens))) for tokens in exact]
    width = COMPLETION_TO - COMPLETION_FROM + 1
    completions = [COMPLETION_FROM + int(share * width) for share in shares]
    rng = random.Random(f"{seed}/lengths")
    return list(zip(rng.sample(prompts, count), rng.sample(completions, count), strict=True))


def rows_of(workload: Workload, count: int, vocab: int, seed: int) -> list[Encoded]:
    rng = random.Random(f"{seed}/tokens")
    return [
        Encoded(tokens(rng, prompt, vocab), tokens(rng, completion, vocab))
        for prompt, completion in lengths_of(workload, count, seed)
    ]


def tokens(rng: random.Random, count: int, vocab: int) -> list[int]:
    """Never 0, which pads."""
    return [rng.randrange(1, vocab) for _ in range(count)]


def real_tokens(rows: Sequence[Encoded]) -> int:
    return sum(len(row) for row in rows)
