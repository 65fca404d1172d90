"""Which examples a step takes, who computes which, and in what groups. Pure.

A step's examples are drawn at random, whatever their lengths: a step means the same as in plain
shuffled training. Only inside a step examples of like length are put together, so that little
padding is computed; the loss is summed over tokens and divided by the step's, so the grouping does
not change the gradient. Every process plans alike and needs no talk.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

# What one more forward and backward pass costs, in tokens of computing: the grouping weighs it
# against padding. Measured on 2 cores with the tiny model; a larger model has fewer per token.
PASS_TOKENS = 48


def order_rng(seed: int, epoch: int) -> random.Random:
    return random.Random(f"{seed}/order/{epoch}")


def steps_of_epoch(count: int, rows_per_step: int, rng: random.Random) -> list[list[int]]:
    order = rng.sample(range(count), count)
    return [order[start : start + rows_per_step] for start in range(0, count, rows_per_step)]


def share_of(step: Sequence[int], lengths: Sequence[int], process: int, count: int) -> list[int]:
    """One process's examples: dealt by length, so that all have about as much to do."""
    ordered = sorted(step, key=lambda i: (lengths[i], i))
    return ordered[process::count]


def grouped(
    rows: Sequence[int],
    lengths: Sequence[int],
    max_rows: int,
    pass_tokens: int = PASS_TOKENS,
    pack_tokens: int = 0,
) -> list[list[int]]:
    """`rows`, sorted by length, cut where padding and passes together cost least; a group of up to
    `pack_tokens` is computed without padding."""
    costs = [0.0]  # of the best cut of the first k rows
    cuts = [0]
    for end in range(1, len(rows) + 1):
        longest = lengths[rows[end - 1]]
        options = []
        tokens = 0
        for start in range(end - 1, max(0, end - max_rows) - 1, -1):
            tokens += lengths[rows[start]]
            computed = tokens if tokens <= pack_tokens else longest * (end - start)
            options.append((costs[start] + pass_tokens + computed, start))
        cost, start = min(options)
        costs.append(cost)
        cuts.append(start)
    groups: list[list[int]] = []
    end = len(rows)
    while end:
        groups.append(list(rows[cuts[end] : end]))
        end = cuts[end]
    return groups[::-1]


def is_packed(group: Sequence[int], lengths: Sequence[int], pack_tokens: int) -> bool:
    """Whether a group is computed as one row: it fits, and padding would be computed otherwise."""
    found = [lengths[i] for i in group]
    return min(found) < max(found) and sum(found) <= pack_tokens


def even_groups(rows: Sequence[int], passes: int) -> list[list[int]]:
    """A fixed number of groups, some perhaps empty: what sharded training asks of all processes."""
    size = -(-len(rows) // passes) if rows else 0
    return [list(rows[i * size : (i + 1) * size]) for i in range(passes)]
