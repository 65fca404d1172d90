"""Training with the prompts' common beginning computed once a step.

Every chat of a model begins with the same system prompt: half of a short example. Here a step's
rows stand one after the other behind one copy of it. A mask lets each see that copy and itself, and
positions go on from its end, so that loss and gradients are those of the rows apart (tested).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from trainer.fit.fit import Run
from trainer.shared.batches import IGNORED, Encoded, common_start


def common_prefix(rows: Sequence[Encoded]) -> int:
    return common_start([row.prompt for row in rows])


def packed_behind(rows: Sequence[Encoded], prefix: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, labels, positions [1, length]; the mask [1, 1, length, length] is added to scores."""
    ids = list(rows[0].prompt[:prefix])
    labels, owners, positions = [IGNORED] * prefix, [-1] * prefix, list(range(prefix))
    for number, row in enumerate(rows):
        rest = row.prompt[prefix:]
        ids += rest + row.completion
        labels += [IGNORED] * len(rest) + row.completion
        owners += [number] * (len(row) - prefix)
        positions += range(prefix, len(row))
    owner = torch.tensor(owners)
    is_seen = (owner[:, None] == owner[None, :]) | (owner[None, :] == -1)
    return (
        torch.tensor([ids]),
        torch.tensor([labels]),
        torch.tensor([positions]),
        torch.zeros(is_seen.shape).masked_fill_(~is_seen.tril(), float("-inf"))[None, None],
    )


class SharedPrefixRun(Run):
    """`fit`'s run on one CPU process: a step's rows are packed, a part for each worker.

    A worker computes its part on one thread. On a crowded machine threads that share a product wait
    for each other all the time; workers meet once a step. Needs dropout 0: workers would draw from
    one generator in any order.
    """

    def __init__(self, *arguments: Any, workers: int = 2, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        self.workers = workers

    def one_step(self, step: Sequence[int]) -> float:
        """Gradients of the mean loss over the completion tokens; that loss."""
        self.set_rate()
        tokens = sum(len(self.rows[i].completion) for i in step)
        ordered = sorted(step, key=lambda i: self.lengths[i])
        parts = [part for k in range(self.workers) if (part := ordered[k :: self.workers])]
        found = list(self.pool.map(self.part, parts))
        for index, parameter in enumerate(self.parameters.values()):
            parameter.grad = sum(gradients[index] for _, gradients in found) / tokens
        return sum(loss for loss, _ in found) / tokens

    def part(self, group: Sequence[int]) -> tuple[float, tuple[Tensor, ...]]:
        loss = self.group_loss(group)
        return loss.item(), torch.autograd.grad(loss, list(self.parameters.values()))

    def group_loss(self, group: Sequence[int]) -> Tensor:
        rows = [self.rows[i] for i in group]
        prefix = common_prefix(rows) if len(rows) > 1 else 0
        inputs, labels, positions, mask = packed_behind(rows, prefix)
        hidden = self.hidden_behind(group, prefix) if self.cache else None
        return self.loss(inputs, labels, hidden, positions, mask)

    def hidden_behind(self, group: Sequence[int], prefix: int) -> Tensor | None:
        """What enters the first trained layer, from the cache: [1, length, hidden size]."""
        starts = [self.cache.starts[i] for i in group]
        if any(start is None for start in starts):
            return None
        table, pieces = self.cache.table, []
        for number, (start, i) in enumerate(zip(starts, group, strict=True)):
            skipped = prefix if number else 0
            pieces.append(table[start + skipped : start + len(self.rows[i])])
        return torch.cat(pieces)[None]
