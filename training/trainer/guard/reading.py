"""The carrier's pass over texts: the keys and values that a guard's token will read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import DynamicCache

from trainer.guard.example import Marked


@dataclass(frozen=True)
class Read:
    """One text as a carrier has read it."""

    memory: Tensor  # [layers, 2, kv_heads, length, head_dim]: keys and values
    residual: Tensor | None = None  # [marks, layers, hidden], at the token before each mark
    mlp: Tensor | None = None  # the same of the MLP's outputs


@torch.no_grad()
def read_texts(
    model: nn.Module,
    rows: Sequence[Marked],
    *,
    features: bool = False,
    rows_per_batch: int = 16,
    advance: Callable[[int], None] = lambda count: None,
) -> list[Read]:
    """`model` is the carrier, without the guard; in the order of `rows`. What is kept has the
    model's own type."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: dict[int, Read] = {}
    for start in range(0, len(order), rows_per_batch):
        chosen = order[start : start + rows_per_batch]
        for i, read in zip(
            chosen, read_batch(model, [rows[i] for i in chosen], features), strict=True
        ):
            found[i] = read
        advance(len(chosen))
    return [found[i] for i in range(len(rows))]


def read_batch(model: nn.Module, rows: Sequence[Marked], features: bool) -> list[Read]:
    length = max(map(len, rows))
    ids = torch.zeros((len(rows), length), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row.ids)  # padding on the right is seen by nobody
    seen: dict[str, list[Tensor]] = {"residual": [], "mlp": []}
    hooks = listening(model, seen) if features else []
    cache = DynamicCache()
    try:
        model.model(input_ids=ids, past_key_values=cache, use_cache=True)
    finally:
        for hook in hooks:
            hook.remove()
    memory = torch.stack(
        [torch.stack([layer.keys, layer.values]) for layer in cache.layers]
    )  # [layers, 2, rows, kv_heads, length, head_dim]
    out = []
    for i, row in enumerate(rows):
        kept = memory[:, :, i, :, : len(row)].clone()
        if not features:
            out.append(Read(kept))
            continue
        at = torch.tensor([mark.cut - 1 for mark in row.marks], dtype=torch.long)
        picked = {
            site: torch.stack([layer[i, at].float() for layer in layers], dim=1)
            for site, layers in seen.items()
        }
        out.append(Read(kept, picked["residual"], picked["mlp"]))
    return out


def listening(model: nn.Module, seen: dict[str, list[Tensor]]) -> list[RemovableHandle]:
    """Hooks that note what leaves each layer and each MLP, in the order of the layers."""

    def note(site: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            seen[site].append(output[0] if isinstance(output, tuple) else output)

        return hook

    return [
        module.register_forward_hook(note(site))
        for layer in model.model.layers
        for site, module in (("residual", layer), ("mlp", layer.mlp))
    ]
