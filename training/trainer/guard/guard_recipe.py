"""How a guard is trained: every number that a run follows."""

from __future__ import annotations

from dataclasses import dataclass

MODULES = ("q_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class GuardRecipe:
    rank: int = 16
    alpha: int = 32
    modules: tuple[str, ...] = MODULES
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    dropout: float = 0.0
    epochs: int = 2
    batch_size: int = 32  # texts
    warmup: float = 0.05
    prompt_weight: float = 1.0
    seed: int = 1
