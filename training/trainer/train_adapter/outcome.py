"""How a training run ended, and the adapter or model folder that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from trainer.measure.evaluate import Result, as_json, compare
from trainer.measure.strength import StrengthChoice
from trainer.publish.publish import publish, publish_model
from trainer.train_adapter import judging
from trainer.train_adapter.adapter_card import adapter_card
from trainer.weights.lora_folder import adapter_digest
from trainer.world.exam import Exam


@dataclass(frozen=True)
class Examined:
    """The held-out exam before and after training; own data has none."""

    exam: Exam
    n: int  # prompts of a whole set
    before: Result
    after: Result
    chosen_for: str  # which measures chose the epoch

    @property
    def results(self) -> tuple[Result, Result]:
        return self.before, self.after

    @cached_property
    def differences(self) -> dict[str, dict[str, Any]]:
        return {self.after.subject: compare(self.before, self.after)}


@dataclass(frozen=True)
class Outcome:
    description: str
    command: str
    origin: dict[str, Any]  # provenance
    judged: Sequence[judging.Judged]
    chosen: judging.Judged
    minutes: float
    examined: Examined | None = None
    strength: StrengthChoice | None = None

    @property
    def results(self) -> Sequence[Result]:
        return self.examined.results if self.examined else ()

    @property
    def differences(self) -> dict[str, dict[str, Any]]:
        return self.examined.differences if self.examined else {}

    def manifest(self) -> dict[str, Any]:
        found = self.examined
        return {
            "recommended_strength": self.strength.strength if self.strength else 1.0,
            "description": self.description,
            **self.origin,
            "epoch": self.chosen.epoch.number,
            "chosen_by": judging.how_chosen(self.chosen, found.chosen_for if found else None),
            "minutes": round(self.minutes, 1),
            "validation": [
                {"epoch": j.epoch.number, "loss": j.epoch.loss, **j.measures} for j in self.judged
            ],
            "strength": self.strength.as_json() if self.strength else None,
            "exam": {"split": found.exam.split, "seed": found.exam.seed, "n": found.n}
            if found
            else None,
            "results": {
                result.subject: as_json(result, self.differences.get(result.subject))
                for result in self.results
            },
        }

    def ship(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """An adapter is two files, a fully tuned model a whole checkpoint."""
        manifest, checkpoint = self.manifest(), self.chosen.epoch.checkpoint
        if manifest["config"]["mode"] == "lora":
            digest = adapter_digest(checkpoint)
            card = adapter_card(folder.name, manifest, self.command, digest)
            publish(checkpoint, folder, manifest, card)
        else:
            card = adapter_card(folder.name, manifest, self.command, None)
            publish_model(checkpoint, folder, manifest, card, tokenizer)

    def lines(self) -> list[str]:
        """The held-out results for the terminal."""
        shown = []
        for name, found in self.differences.items():
            for measure, difference in found.items():
                numbers = ", ".join(f"{k} {v:+.4f}" for k, v in asdict(difference).items())
                shown.append(f"{name}: {measure} {numbers}")
        for result in self.results:
            for measure, share in result.shares.items():
                bounds = f"[{share.low:.3f}, {share.high:.3f}]"
                shown.append(f"{result.subject}: {measure} {share.value:.3f} {bounds}")
        return shown
