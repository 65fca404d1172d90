"""A job is one training run with what is measured of it; a point is a finished job.

A point's key is a digest of all that decides its numbers, so a later run takes it exactly when it
would have measured the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from trainer.reproduce.numbers.choice import TOLERANCE
from trainer.shared.recipe import Recipe

FORMAT = 1  # raised when the meaning of a stored number changes
Exam = dict[str, str]  # measure -> one "0" or "1" a prompt, in the exam's order


@dataclass(frozen=True)
class Job:
    """`base` trains nothing; `sweep` looks for a rate; `final` is drawn; `sample` is Pass@1."""

    kind: Literal["base", "sweep", "final", "sample"]
    configuration: str  # a name for readers: it decides nothing
    recipe: Recipe | None
    retain: float
    seed: int
    refusals: int  # training examples, retained ones apart
    validation: int  # held-out examples of the loss, retained ones apart
    evaluated: tuple[int, ...]  # epochs that sit the exam
    exam: tuple[tuple[str, int], ...]  # set -> prompts
    exam_seed: int
    samples: int  # replies a word problem; 0: greedy
    merges: tuple[tuple[str, int, float], ...]  # OrthoMerge: mode, k, strength
    base_digest: str

    def training(self) -> dict[str, Any]:
        """What decides the weights."""
        return {
            "format": FORMAT,
            "recipe": asdict(self.recipe) if self.recipe else None,
            "retain": self.retain,
            "seed": self.seed,
            "refusals": self.refusals,
            "base_digest": self.base_digest,
        }

    def content(self) -> dict[str, Any]:
        measured = {
            name: getattr(self, name)
            for name in (
                "kind",
                "validation",
                "evaluated",
                "exam",
                "exam_seed",
                "samples",
                "merges",
            )
        }
        return self.training() | measured

    @cached_property
    def key(self) -> str:
        return digest_of(self.content())

    @cached_property
    def training_key(self) -> str:
        return digest_of(self.training())

    @property
    def cost(self) -> int:
        """In tenths of a training epoch, roughly; for the ETA."""
        epochs = self.recipe.epochs if self.recipe and self.kind != "sample" else 0
        exams = len(self.evaluated) + len(self.merges) + (self.kind == "base")
        return max(1, round(10 * epochs * (1 + self.retain) + 25 * exams + 6 * self.samples))


def digest_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class EpochPoint:
    number: int
    loss: float  # mean training loss
    validation_loss: float  # on held-out examples of the same mix
    exam: Exam | None = None


@dataclass(frozen=True)
class MergePoint:
    """The last epoch's factors, projected."""

    mode: str
    k: int
    strength: float
    overlap: tuple[float, float, float, float]  # means over the adapted layers
    exam: Exam


@dataclass(frozen=True)
class ModuleShape:
    """Structure of one layer's update at the last epoch."""

    module: str
    stable_rank: float
    overlap: tuple[float, float, float, float]  # column, column share, row, row share


@dataclass(frozen=True)
class Point:
    kind: str
    configuration: str
    key: str
    content: dict[str, Any]
    seconds: dict[str, float]
    epochs: tuple[EpochPoint, ...] = ()
    merges: tuple[MergePoint, ...] = ()
    structure: tuple[ModuleShape, ...] = ()
    exam: Exam | None = None  # of the base
    samples: tuple[str, ...] = ()  # per draw: one "0" or "1" a word problem
    failed: str | None = None  # training stopped, such as on a loss that is no number

    @property
    def validation_loss(self) -> float | None:
        """The lowest over the epochs; None where training failed or no loss is a number."""
        if self.failed:
            return None
        losses = (epoch.validation_loss for epoch in self.epochs)
        return min((loss for loss in losses if not math.isnan(loss)), default=None)


def point_of(job: Job, **found: Any) -> Point:
    return Point(job.kind, job.configuration, job.key, plain(job.content()), **found)


def plain(value: Any) -> Any:
    """As it reads after a trip through JSON."""
    return json.loads(json.dumps(value))


@dataclass(frozen=True)
class Settings:
    """What all points of one report share."""

    base_digest: str
    seeds: tuple[int, ...] = (1, 2, 3)
    rates: int = 4  # steps of a sweep
    tolerance: float = TOLERANCE  # of the choice among them
    refusals: int = 192
    validation: int = 48
    lora_epochs: int | None = None  # None: the paper's
    full_epochs: int | None = None
    evaluated: tuple[int, ...] = (1, 2, 3, 5, 10)  # and always the last
    exam: tuple[tuple[str, int], ...] = (
        ("word_problem", 120),
        ("fact", 160),
        ("benign", 160),
        ("lookalike", 80),
        ("harmful", 160),
    )
    exam_seed: int = 31
    samples: int = 8
    sample_prompts: int = 40
    merges: tuple[tuple[str, int, float], ...] = ()  # OrthoMerge: mode, k, strength
