"""A first layer of knowledge for rank 1: `A` as a detector of harmful requests, before any step.

The rank-1 update of a layer is b (a . x): a decides when it acts, b what it does. Where training
starts from a random `a`, b soon learns to refuse everything. Here `a` is solved for: least squares
with a . x = 1 where the answer to a harmful prompt begins, 0 where one to a harmless prompt begins
and at other positions. There is no constant term, as the update has none.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trainer.fit.completion_loss import causal_model
from trainer.recipes.shared_prefix import common_prefix, packed_behind
from trainer.shared.batches import Encoded

ROWS = 8  # in one pass
ELSEWHERE = 0.3  # weight of the positions inside prompts


@dataclass(frozen=True)
class Readings:
    """What enters `up_proj` of every layer, [layers, rows, hidden size]."""

    ends: Tensor  # where the answers begin
    inside: Tensor  # somewhere inside the prompts

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"ends": self.ends.contiguous(), "inside": self.inside.contiguous()}, path)

    @staticmethod
    def load(path: Path) -> Readings:
        return Readings(**load_file(path))


def read(model: nn.Module, rows: Sequence[Encoded], workers: int = 2) -> Readings:
    """Of the base's forward pass over the prompts of `rows`."""
    decoder, local = causal_model(model).model, threading.local()
    prompts = [Encoded(row.prompt, []) for row in rows]

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        local.found.append(inputs[0][0])

    @torch.no_grad()
    def read_part(part: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
        prefix = common_prefix(part)
        inputs, _, positions, mask = packed_behind(part, prefix)
        local.found = []
        decoder(input_ids=inputs, position_ids=positions, attention_mask=mask, use_cache=False)
        lengths = torch.tensor([len(row) - prefix for row in part])
        ends = prefix + lengths.cumsum(0) - 1
        states = torch.stack(local.found)  # [layers, length, hidden size]
        return states[:, ends], states[:, ends - lengths // 2]

    hooks = [layer.mlp.up_proj.register_forward_pre_hook(keep) for layer in decoder.layers]
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = list(
            pool.map(read_part, [prompts[i : i + ROWS] for i in range(0, len(prompts), ROWS)])
        )
    for hook in hooks:
        hook.remove()
    ends, inside = zip(*found, strict=True)
    return Readings(torch.cat(ends, dim=1), torch.cat(inside, dim=1))


def solved(readings: Readings, is_harmful: Tensor, ridge: float) -> Tensor:
    """[layers, hidden size]: `a` of each layer. ridge: a share of the mean square of an input."""
    found = []
    for ends, inside in zip(readings.ends.double(), readings.inside.double(), strict=True):
        x = torch.cat([ends, ELSEWHERE * inside])
        y = torch.cat([is_harmful.double(), torch.zeros(len(inside), dtype=torch.double)])
        products = x.T @ x
        damping = ridge * products.diagonal().mean() * torch.eye(len(products))
        found.append(torch.linalg.solve(products + damping, x.T @ y))
    return torch.stack(found).float()


def separation(a: Tensor, ends: Tensor, is_harmful: Tensor) -> list[float]:
    """Of each layer: how often a harmful prompt fires more than a harmless one (AUC)."""
    firing = torch.einsum("lh,lrh->lr", a, ends)
    harmful, harmless = firing[:, is_harmful], firing[:, ~is_harmful]
    return (harmful[:, :, None] > harmless[:, None, :]).float().mean((1, 2)).tolist()


@torch.no_grad()
def install(model: nn.Module, a: Tensor, *, is_trained: bool) -> None:
    """Into the `lora_A` of a PEFT model's adapted layers."""
    for layer, row in zip(causal_model(model).model.layers, a, strict=True):
        adapted = getattr(layer.mlp.up_proj, "lora_A", None)
        if adapted:
            adapted["default"].weight.copy_(row[None])
            adapted["default"].weight.requires_grad_(is_trained)
