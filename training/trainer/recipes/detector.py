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

import torch
from torch import Tensor, nn

from trainer.fit.completion_loss import causal_model
from trainer.recipes.shared_prefix import common_prefix, packed_behind
from trainer.shared.batches import Encoded

ROWS = 8  # in one pass
ELSEWHERE = 0.3  # weight of the positions inside prompts


class Readings:
    """What enters `up_proj` of every layer: `ends` [layers, rows, hidden size] where the answers
    begin, `inside` the same somewhere inside the prompts."""

    def __init__(self, model: nn.Module, rows: Sequence[Encoded], workers: int = 2) -> None:
        self.decoder = causal_model(model).model
        self.local = threading.local()
        prompts = [Encoded(row.prompt, []) for row in rows]
        hooks = [
            layer.mlp.up_proj.register_forward_pre_hook(self.keep) for layer in self.decoder.layers
        ]
        with ThreadPoolExecutor(workers, torch.set_num_threads, initargs=(1,)) as pool:
            parts = [prompts[i : i + ROWS] for i in range(0, len(prompts), ROWS)]
            found = list(pool.map(self.read, parts))
        for hook in hooks:
            hook.remove()
        self.ends = torch.cat([ends for ends, _ in found], dim=1)
        self.inside = torch.cat([inside for _, inside in found], dim=1)

    def keep(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.local.found.append(inputs[0][0])

    @torch.no_grad()
    def read(self, rows: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
        prefix = common_prefix(rows)
        inputs, _, positions, mask = packed_behind(rows, prefix)
        self.local.found = []
        self.decoder(
            input_ids=inputs, position_ids=positions, attention_mask=mask, use_cache=False
        )
        lengths = torch.tensor([len(row) - prefix for row in rows])
        ends = prefix + lengths.cumsum(0) - 1
        states = torch.stack(self.local.found)  # [layers, length, hidden size]
        return states[:, ends], states[:, ends - lengths // 2]


def solved(readings: Readings, is_harmful: Tensor, ridge: float) -> Tensor:
    """[layers, hidden size]: `a` of each layer. ridge: as a share of the mean square of an input."""
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
