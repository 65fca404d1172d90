"""The verdict: the guard's token behind a text, and the two label logits that it is read by.

    text     t0 t1 … t(cut-1)     keys and values of the carrier, frozen
    guard                    G    the base with the guard, at position `cut`; sees the text and G

Several marks of one text are judged in one pass: every G has a position and a mask of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from trainer.fit.completion_loss import causal_model
from trainer.fit.grouped_attention import grouped
from trainer.guard.example import Marked
from trainer.guard.reading import Read


@dataclass(frozen=True)
class Tokens:
    """The ids that a guard is made of."""

    guard: int
    safe: int
    unsafe: int
    suffix: int = 1  # how often the guard's token is repeated; the last one is read


def layout(rows: Sequence[Marked], suffix: int) -> tuple[Tensor, Tensor]:
    """Cuts [rows, marks], -1 where a row has fewer; positions [rows, marks * suffix]."""
    most = max(len(row.marks) for row in rows)
    cuts = torch.full((len(rows), most), -1, dtype=torch.long)
    for i, row in enumerate(rows):
        cuts[i, : len(row.marks)] = torch.tensor([mark.cut for mark in row.marks])
    steps = torch.arange(suffix)
    positions = cuts.clamp(min=1)[:, :, None] + steps
    return cuts, positions.flatten(1)


def guard_mask(cuts: Tensor, length: int, suffix: int) -> Tensor:
    """[rows, 1, marks * suffix, length + marks * suffix], True where a guard's token looks."""
    rows, marks = cuts.shape
    reach = cuts.clamp(min=1).repeat_interleave(suffix, dim=1)
    text = torch.arange(length)[None, None] < reach[:, :, None]
    number = torch.arange(marks * suffix)
    same = number[:, None] // suffix == number[None] // suffix
    own = (same & (number[:, None] >= number[None])).expand(rows, -1, -1)
    return torch.cat([text, own], dim=2)[:, None]


def padded_memory(reads: Sequence[Read], length: int, dtype: torch.dtype) -> DynamicCache:
    layers, _, heads, _, width = reads[0].memory.shape
    memory = torch.zeros((layers, 2, len(reads), heads, length, width), dtype=dtype)
    for i, read in enumerate(reads):
        memory[:, :, i, :, : read.memory.shape[3]] = read.memory
    return DynamicCache([(memory[layer, 0], memory[layer, 1]) for layer in range(layers)])


def additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


def label_logits(body: nn.Module, head: Tensor, hidden: Tensor, tokens: Tokens) -> Tensor:
    """[rows, marks, 2]: safe, unsafe."""
    last = hidden[:, tokens.suffix - 1 :: tokens.suffix]
    return last @ head[[tokens.safe, tokens.unsafe]].T


def verdict_logits(
    model: nn.Module, rows: Sequence[Marked], reads: Sequence[Read], tokens: Tokens
) -> Tensor:
    """[rows, marks, 2]. `model` is the base with the guard; rows with fewer marks hold noise
    behind them."""
    causal = causal_model(model)
    cuts, positions = layout(rows, tokens.suffix)
    length = max(map(len, rows))
    mask = guard_mask(cuts, length, tokens.suffix)
    with grouped(causal):
        hidden = causal.model(
            input_ids=torch.full_like(positions, tokens.guard),
            position_ids=positions,
            attention_mask=additive(mask, causal.dtype),
            past_key_values=padded_memory(reads, length, causal.dtype),
            use_cache=True,
        ).last_hidden_state
    return label_logits(causal.model, causal.lm_head.weight, hidden, tokens)


def full_pass_logits(model: nn.Module, rows: Sequence[Marked], tokens: Tokens) -> Tensor:
    """[rows, marks, 2] where the guard acts on every token of the text too."""
    causal = causal_model(model)
    cuts, positions = layout(rows, tokens.suffix)
    length, extra = max(map(len, rows)), positions.shape[1]
    ids = torch.full((len(rows), length + extra), tokens.guard, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row.ids)
    own = guard_mask(cuts, length, tokens.suffix)
    text = torch.ones((length, length), dtype=torch.bool).tril()
    upper = torch.cat([text, torch.zeros((length, extra), dtype=torch.bool)], dim=1)
    mask = torch.cat([upper.expand(len(rows), 1, -1, -1), own], dim=2)
    places = torch.cat([torch.arange(length).expand(len(rows), -1), positions], dim=1)
    hidden = causal.model(
        input_ids=ids, position_ids=places, attention_mask=additive(mask, causal.dtype),
        use_cache=False,
    ).last_hidden_state  # fmt: skip
    return label_logits(causal.model, causal.lm_head.weight, hidden[:, length:], tokens)
