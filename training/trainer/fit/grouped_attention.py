"""Attention of few queries over long, frozen keys and values, without a copy a query head.

PyTorch's own attention on a processor repeats keys and values for every query head, in the backward
pass too. Here the query heads that share keys are rows of one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface

NAME = "dutyfree_grouped"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **unused: Any,
) -> tuple[Tensor, None]:
    """query [rows, heads, m, width]; key, value [rows, kv_heads, length, width]; the mask
    [rows, 1, m, length] is added. Gives [rows, m, heads, width]."""
    rows, heads, m, width = query.shape
    groups = key.shape[1]
    stacked = query.reshape(rows, groups, heads // groups * m, width)
    scores = (stacked @ key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        apart = scores.view(rows, groups, heads // groups, m, -1)
        scores = (apart + attention_mask[:, :, None]).view_as(scores)
    found = (scores.softmax(-1) @ value).view(rows, heads, m, width)
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, grouped_attention)


@contextmanager
def grouped(causal: nn.Module) -> Iterator[None]:
    """The model's passes inside use it; outside they are as before."""
    config = causal.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
