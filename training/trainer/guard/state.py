"""What a training run keeps after each epoch, so that a stopped one goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainer.guard.example import Marked
from trainer.guard.guard_recipe import GuardRecipe
from trainer.guard.verdict import Tokens
from trainer.shared.progress import say


@dataclass(frozen=True)
class State:
    """`path` None keeps nothing."""

    path: Path | None
    run: str  # a fingerprint; the state of another run is not gone on from
    weights: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    def resumed(self) -> int:
        """How many epochs are done."""
        if self.path is None or not self.path.is_file():
            return 0
        kept: dict[str, Any] = torch.load(self.path, weights_only=True)
        if kept["run"] != self.run:
            say(f"{self.path} is of another run; this one starts anew")
            return 0
        for name, weight in self.weights.items():
            weight.data.copy_(kept["weights"][name])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.schedule.load_state_dict(kept["schedule"])
        say(f"going on after epoch {kept['epoch']}")
        return kept["epoch"]

    def keep(self, epoch: int) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        torch.save(
            {
                "run": self.run,
                "epoch": epoch,
                "weights": {name: weight.data for name, weight in self.weights.items()},
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
            },
            partial,
        )
        partial.replace(self.path)


def fingerprint(rows: Sequence[Marked], recipe: GuardRecipe, tokens: Tokens) -> str:
    texts = [[row.ids, [asdict(mark) for mark in row.marks]] for row in rows]
    told = [asdict(recipe), asdict(tokens), texts]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
