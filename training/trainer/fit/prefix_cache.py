"""What enters the first trained layer, kept for every example across epochs.

Nothing below that layer changes while training, so its output is computed once. It is computed
before the first epoch in batches that depend on the data alone: a resumed run reads the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from trainer.fit.completion_loss import CompletionLoss
from trainer.shared.batches import Encoded, collate
from trainer.shared.progress import Progress

CacheLocation = Literal["memory", "disk", "off"]
CACHE_LOCATIONS: tuple[CacheLocation, ...] = get_args(CacheLocation)
TOKENS_AT_ONCE = 4096
SHORTEST = 0.8  # of the longest example in a batch: few tokens of padding are computed


class PrefixCache:
    """One flat table [tokens, hidden size]; a row of the data has a stretch of it, or none."""

    def __init__(self, table: Tensor, starts: Sequence[int | None]) -> None:
        self.table = table
        self.starts = starts

    def rows(self, indices: Sequence[int], rows: Sequence[Encoded]) -> Tensor | None:
        """[rows, longest, hidden size], zero where padded; None unless all rows are here."""
        starts = [self.starts[i] for i in indices]
        if any(start is None for start in starts):
            return None
        longest = max(len(row) for row in rows)
        found = torch.zeros(len(rows), longest, self.table.shape[1], dtype=self.table.dtype)
        for index, (start, row) in enumerate(zip(starts, rows, strict=True)):
            found[index, : len(row)] = self.table[start : start + len(row)]
        return found

    def packed(self, indices: Sequence[int], rows: Sequence[Encoded]) -> Tensor | None:
        """[1, tokens of all rows, hidden size]; None unless all rows are here."""
        starts = [self.starts[i] for i in indices]
        if any(start is None for start in starts):
            return None
        pieces = [self.table[s : s + len(row)] for s, row in zip(starts, rows, strict=True)]
        return torch.cat(pieces)[None]


def fill(
    loss: CompletionLoss,
    rows: Sequence[Encoded],
    pad_id: int,
    device: torch.device,
    *,
    limit: int,
    file: Path | None = None,
) -> PrefixCache:
    """At most `limit` bytes, in memory or in `file`; shorter examples are taken first."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    sample = loss.prefix(torch.tensor([rows[order[0]].prompt[:1]], device=device))
    hidden_size, row_bytes = sample.shape[-1], sample.shape[-1] * sample.element_size()
    starts: list[int | None] = [None] * len(rows)
    used = 0
    for i in order:
        if (used + len(rows[i])) * row_bytes > limit:
            break
        starts[i] = used
        used += len(rows[i])
    cached = [i for i in order if starts[i] is not None]
    if file is None:
        table = torch.empty(used, hidden_size, dtype=sample.dtype)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        table = torch.from_file(
            str(file), shared=True, size=used * hidden_size, dtype=sample.dtype
        ).view(used, hidden_size)
    progress = Progress("layers below the adapter", len(cached), "examples")
    while cached:
        longest = len(rows[cached[-1]])
        count = max(1, min(len(cached), TOKENS_AT_ONCE // longest))
        count = sum(len(rows[i]) >= SHORTEST * longest for i in cached[-count:])
        taken, cached = cached[-count:], cached[:-count]
        batch = collate([rows[i] for i in taken], pad_id)
        states = loss.prefix(batch.inputs.to(device)).cpu()
        for i, state in zip(taken, states, strict=True):
            table[starts[i] : starts[i] + len(rows[i])] = state[: len(rows[i])]
        progress.advance(count)
    progress.close()
    return PrefixCache(table, starts)
