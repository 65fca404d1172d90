"""What training changed: low-rank factors for LoRA, whole tensors for full fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

State = Mapping[str, Tensor]  # name -> weight, as transformers names them


@dataclass(frozen=True)
class Update:
    """`factors`: module -> (b [d, r], a [r, n]), W' = W + b a; `tensors`: name -> new weight."""

    factors: dict[str, tuple[Tensor, Tensor]]
    tensors: dict[str, Tensor]

    def modules(self) -> tuple[str, ...]:
        """Linear layers in the blocks that were changed."""
        whole = [
            name.removesuffix(".weight") for name in self.tensors if name.endswith("_proj.weight")
        ]
        return (*self.factors, *whole)

    def delta(self, module: str, base: State) -> Tensor:
        """[d, n], the update of one linear layer."""
        if module in self.factors:
            b, a = self.factors[module]
            return b @ a
        return self.tensors[f"{module}.weight"] - base[f"{module}.weight"]


@torch.no_grad()
def taken_from(model: torch.nn.Module) -> Update:
    """A copy of what a prepared model has learned so far."""
    factors = {}
    for path, module in model.named_modules():
        if getattr(module, "lora_A", None):
            name = module.active_adapters[0]
            b = module.lora_B[name].weight * module.scaling[name]
            short = path.removeprefix("base_model.model.")
            factors[short] = (b.detach().clone(), module.lora_A[name].weight.detach().clone())
    if factors:
        return Update(factors, {})
    tied = getattr(model.config, "tie_word_embeddings", False)
    return Update(
        {},
        {
            name: tensor.detach().clone()
            for name, tensor in model.state_dict().items()
            if not (tied and name == "lm_head.weight")
        },
    )


@torch.no_grad()
def merged(base: State, update: Update) -> dict[str, Tensor]:
    state = dict(base) | update.tensors
    for module, (b, a) in update.factors.items():
        state[f"{module}.weight"] = base[f"{module}.weight"] + b @ a
    return state


def save_update(update: Update, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    named = dict(update.tensors)
    for module, (b, a) in update.factors.items():
        named |= {f"{module}#b": b.contiguous(), f"{module}#a": a.contiguous()}
    partial = path.with_name(f".{path.name}.partial")
    save_file(named, partial)
    partial.replace(path)


def load_update(path: Path) -> Update:
    named = load_file(path)
    factors = {
        name.removesuffix("#b"): (tensor, named[name.removesuffix("#b") + "#a"])
        for name, tensor in named.items()
        if name.endswith("#b")
    }
    return Update(factors, {k: v for k, v in named.items() if "#" not in k})
