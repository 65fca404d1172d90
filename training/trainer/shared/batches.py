"""Text to tensors: prompt + completion, batched by length, with the loss on completions only.

Batches hold examples of like length, padded on the right. With causal attention a real token never
sees padding to its right, so no attention mask is needed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

IGNORED = -100  # label that the loss skips


@dataclass(frozen=True)
class Pair:
    """One training example: chat messages up to the reply, and the reply without its EOS."""

    messages: tuple[tuple[str, str], ...]  # (role, content)
    completion: str


@dataclass(frozen=True)
class Encoded:
    prompt: list[int]
    completion: list[int]  # ends in EOS

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class Batch:
    inputs: Tensor  # [rows, length] int64
    labels: Tensor  # [rows, length] int64, IGNORED on prompt and padding
    tokens: int  # real tokens, padding not counted
    positions: Tensor | None = None  # [1, length], starting again at every packed example


def common_start(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with; at least one of each prompt is left over."""
    most = min(map(len, prompts)) - 1
    columns = zip(*(prompt[:most] for prompt in prompts), strict=True)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[tuple[str, str]]) -> str:
    chat = [{"role": role, "content": content} for role, content in messages]
    return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def encode_pairs(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair]) -> list[Encoded]:
    """Prompt and completion are encoded apart, as they are when the model is served."""
    prompts = [render_prompt(tokenizer, pair.messages) for pair in pairs]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    completion_ids = tokenizer([p.completion for p in pairs], add_special_tokens=False)["input_ids"]
    eos = tokenizer.eos_token_id
    return [
        Encoded(prompt, [*completion, eos])
        for prompt, completion in zip(prompt_ids, completion_ids, strict=True)
    ]


def collate(rows: Sequence[Encoded], pad_id: int) -> Batch:
    length = max(len(row) for row in rows)
    inputs = torch.full((len(rows), length), pad_id, dtype=torch.long)
    labels = torch.full((len(rows), length), IGNORED, dtype=torch.long)
    for index, row in enumerate(rows):
        inputs[index, : len(row)] = torch.tensor(row.prompt + row.completion)
        labels[index, len(row.prompt) : len(row)] = torch.tensor(row.completion)
    return Batch(inputs, labels, sum(len(row) for row in rows))


def packed(rows: Sequence[Encoded]) -> Batch:
    """All rows in one, one after the other, without padding: where positions start again,
    transformers keeps attention from looking back. A prompt's first token is nobody's target, so no
    row is asked to go on with the next one."""
    ids = [token for row in rows for token in (*row.prompt, *row.completion)]
    labels = [label for row in rows for label in (*[IGNORED] * len(row.prompt), *row.completion)]
    positions = torch.cat([torch.arange(len(row)) for row in rows])
    return Batch(torch.tensor([ids]), torch.tensor([labels]), len(ids), positions[None])


def batches_by_tokens(
    rows: Sequence[Encoded], rng: random.Random, *, tokens_per_batch: int, pad_id: int
) -> Iterator[Batch]:
    """Groups of like length with at most `tokens_per_batch` padded tokens, in random order."""
    order = sorted(rng.sample(range(len(rows)), len(rows)), key=lambda i: len(rows[i]))
    groups: list[list[Encoded]] = [[]]
    for index in order:
        row = rows[index]
        if groups[-1] and len(row) * (len(groups[-1]) + 1) > tokens_per_batch:
            groups.append([])
        groups[-1].append(row)
    rng.shuffle(groups)
    for group in groups:
        yield collate(group, pad_id)


def batches_by_rows(
    rows: Sequence[Encoded], rng: random.Random, *, rows_per_batch: int, pad_id: int
) -> Iterator[Batch]:
    """Shuffled batches of a fixed number of rows."""
    order = rng.sample(range(len(rows)), len(rows))
    for start in range(0, len(order), rows_per_batch):
        yield collate([rows[i] for i in order[start : start + rows_per_batch]], pad_id)
