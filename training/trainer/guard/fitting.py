"""Training the guard: gradients flow through its one token only, over frozen keys and values."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from trainer.fit.adapter import with_lora
from trainer.guard.example import Marked
from trainer.guard.guard_recipe import GuardRecipe
from trainer.guard.reading import Read
from trainer.guard.state import State, fingerprint
from trainer.guard.verdict import Tokens, full_pass_logits, verdict_logits


def adapted(model: nn.Module, recipe: GuardRecipe, tokens: Tokens, base_name: str) -> nn.Module:
    """The base with a fresh guard on it; only the guard is trainable.

    The file's config names GUARD as PEFT's invocation token. Here every pass with the guard is of
    GUARD tokens alone, so PEFT's own search for them is left out until the folder is written."""
    return with_lora(
        model, base_name, recipe.seed, rank=recipe.rank, alpha=recipe.alpha,
        dropout=recipe.dropout, modules=recipe.modules,
    )  # fmt: skip


def source_weights(rows: Sequence[Marked], prompt_weight: float = 1.0) -> list[list[float]]:
    """One weight a mark: each source, and in it safe and unsafe, adds the same; marks of one text
    share its weight."""
    totals: dict[tuple[str, str, bool], float] = {}

    def key(row: Marked, index: int) -> tuple[str, str, bool]:
        mark = row.marks[index]
        part = "prompt" if mark.part == "prompt" else "reply"
        return row.example.source, part, mark.unsafe

    def raw(row: Marked, index: int) -> float:
        part = row.marks[index].part
        return 1 / sum(mark.part == part for mark in row.marks)

    for row in rows:
        for i in range(len(row.marks)):
            totals[key(row, i)] = totals.get(key(row, i), 0.0) + raw(row, i)
    # A source counts by the square root of its size: neither by size alone nor all the same.
    scale = {k: math.sqrt(v) for k, v in totals.items()}
    for part in ("prompt", "reply"):
        for unsafe in (False, True):
            mine = [k for k in scale if k[1] == part and k[2] == unsafe]
            whole = sum(scale[k] for k in mine)
            for k in mine:
                scale[k] /= whole
    share = {"prompt": prompt_weight, "reply": 1.0}
    return [
        [
            share[key(row, i)[1]] * scale[key(row, i)] * raw(row, i) / totals[key(row, i)]
            for i in range(len(row.marks))
        ]
        for row in rows
    ]


def batches(rows: Sequence[Marked], rng: random.Random, size: int) -> list[list[int]]:
    """Of as many marks and like length, so that little is padding; in random order."""

    def cost(i: int) -> tuple[int, int]:
        return len(rows[i].marks), len(rows[i]) // 8

    order = sorted(rng.sample(range(len(rows)), len(rows)), key=cost)
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    rng.shuffle(groups)
    return groups


def fit_guard(
    model: nn.Module,
    rows: Sequence[Marked],
    reads: Sequence[Read] | None,
    tokens: Tokens,
    recipe: GuardRecipe,
    *,
    saved: Path | None = None,
    after_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """`reads` are what the carriers have read of the rows; None trains a full pass, with the guard
    on every token. `saved` is a file that each epoch is kept in, and that a run goes on from."""
    weights = source_weights(rows, recipe.prompt_weight)
    mean = sum(map(sum, weights)) / max(1, sum(len(row.marks) > 0 for row in rows))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        trained.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay,
        betas=(0.9, 0.99),
    )  # fmt: skip
    steps = recipe.epochs * math.ceil(len(rows) / recipe.batch_size)
    warm = max(1, round(recipe.warmup * steps))

    def share(step: int) -> float:
        return min((step + 1) / warm, max(0.0, (steps - step) / (steps - warm + 1)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    state = State(saved, fingerprint(rows, recipe, tokens), trained, optimizer, schedule)
    model.train()
    for epoch in range(state.resumed(), recipe.epochs):
        torch.manual_seed(recipe.seed + epoch)  # of the dropout
        total = count = 0.0
        for chosen in batches(rows, random.Random(f"{recipe.seed}/{epoch}"), recipe.batch_size):
            batch = [rows[i] for i in chosen]
            if reads is None:
                logits = full_pass_logits(model, batch, tokens)
            else:
                logits = verdict_logits(model, batch, [reads[i] for i in chosen], tokens)
            loss = weighted_loss(logits, batch, [weights[i] for i in chosen], mean)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total, count = total + float(loss.detach()) * len(batch), count + len(batch)
            advance(len(batch))
        state.keep(epoch + 1)
        after_epoch(epoch + 1, total / count)
    model.eval()


def weighted_loss(
    logits: Tensor, rows: Sequence[Marked], weights: Sequence[Sequence[float]], mean: float
) -> Tensor:
    """Binary cross entropy on unsafe minus safe; the mean weight of a text is 1."""
    margin = logits[..., 1] - logits[..., 0]
    labels, shares = torch.zeros_like(margin), torch.zeros_like(margin)
    for i, row in enumerate(rows):
        for j, mark in enumerate(row.marks):
            labels[i, j], shares[i, j] = float(mark.unsafe), weights[i][j] / mean
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        margin, labels, weight=shares, reduction="sum"
    )
    return loss / len(rows)


@torch.no_grad()
def margins(
    model: nn.Module,
    rows: Sequence[Marked],
    reads: Sequence[Read] | None,
    tokens: Tokens,
    *,
    rows_per_batch: int = 32,
) -> list[list[float]]:
    """Unsafe minus safe, one a mark, in the order of the rows. No reads: a full pass."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: list[list[float]] = [[] for _ in rows]
    for start in range(0, len(order), rows_per_batch):
        chosen = order[start : start + rows_per_batch]
        batch = [rows[i] for i in chosen]
        if reads is None:
            logits = full_pass_logits(model, batch, tokens)
        else:
            logits = verdict_logits(model, batch, [reads[i] for i in chosen], tokens)
        for i, row_logits in zip(chosen, logits, strict=True):
            values = (row_logits[:, 1] - row_logits[:, 0]).tolist()
            found[i] = values[: len(rows[i].marks)]
    return found
