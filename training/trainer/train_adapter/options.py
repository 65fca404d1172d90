"""What a run of `train-adapter` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.data.generated import Style


@dataclass(frozen=True)
class TrainOptions:
    output: Path
    model: str | None  # None: the config's, else the embedded one
    config: Path | None
    adapter: Path | None  # to be trained on
    overrides: dict[str, Any]
    style: Style
    data: str | None
    examples: int
    retain: float
    choose: str
    seed: int
    n: int
    exam_seed: int
    validation_n: int
    checkpoints: Path
    resume: bool
    device: str  # auto, cpu, cuda
    prefix_cache: str
    cache_bytes: int
    gradient_checkpointing: bool | None
    description: str | None
    command: str
