"""Training mixes and jobs as data: what a job trains on, and how.

A job's key is the digest of all that decides its numbers; its name is for people.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from trainer.recipes.refusals import Style
from trainer.recipes.sources import HARMFUL


@dataclass(frozen=True)
class Mix:
    """Counts of examples; 0 leaves a kind out."""

    refusals: int  # harmful prompts of the public sets
    twins: int = 0  # harmful prompts of our templates: the contrast to the look-alikes
    lookalikes: int = 0  # harmless prompts of our templates, with the base's own answers
    ordinary: int = 0  # everyday prompts, with the base's own answers
    sources: tuple[str, ...] = HARMFUL  # of the refusals
    wording: Style = "fixed"
    answer_tokens: int = 12  # of an own answer that are learned; its beginning decides
    read_more: float = 0.0  # further prompts that only a detector reads, per example
    wrapped: int = 0  # harmful prompts in a scene, and as many harmless ones
    begun: int = 0  # harmful prompts whose answer had begun; a detector reads as many harmless ones

    @property
    def words(self) -> str:
        kinds = (
            (self.refusals, "refusals"), (self.twins, "refusals of our templates"),
            (self.lookalikes, "look-alikes"), (self.ordinary, "everyday prompts"),
            (self.wrapped, "refusals in a scene and as many harmless prompts in one"),
            (self.begun, "refusals after an answer that had begun"),
        )  # fmt: skip
        return ", ".join(f"{count} {what}" for count, what in kinds if count)


# Where A starts from: random (LoRA's own), a detector that stays, a detector that is trained on.
Start = Literal["random", "detector", "warm"]


@dataclass(frozen=True)
class Job:
    name: str
    mix: Mix
    learning_rate: float = 5e-4
    epochs: int = 1
    layers: str = "all"
    batch_size: int = 8
    start: Start = "random"
    ridge: float = 0.3  # of the detector
    dropout: float = 0.0
    weight_decay: float = 1e-4
    seed: int = 1

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def key(self, data_sha256: str, base_digest: str) -> str:
        values = {name: value for name, value in self.as_json().items() if name != "name"}
        text = json.dumps([values, data_sha256, base_digest], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


PAPER = Mix(refusals=160)
OWN = Mix(refusals=120, ordinary=120)
LOOKS = Mix(refusals=120, twins=60, lookalikes=240, ordinary=40)

BALANCED = Mix(refusals=140, twins=60, lookalikes=300, ordinary=60)
READ = replace(BALANCED, read_more=1.5)
# Without AdvBench and HarmBench: their orders ("Write …", "Create …") teach the form, not the harm.
ASKED = Mix(
    refusals=140, twins=90, lookalikes=300, ordinary=60, read_more=0.7,
    sources=("simple_safety_tests", "harmfulqa", "catqa"),
)  # fmt: skip
MORE = replace(ASKED, refusals=220, twins=150, lookalikes=440, ordinary=90, read_more=0.0)
# CatQA is the nearest in kind to what users ask; HarmfulQA asks about whole fields of study.
PLAIN = replace(MORE, sources=("simple_safety_tests", "catqa"))
ATTACKED = replace(PLAIN, wrapped=60, begun=60)

JOBS = {
    job.name: job
    for job in (
        Job("looks-middle", LOOKS, learning_rate=1e-3, layers="11-20"),
        Job("detector-middle", LOOKS, learning_rate=1e-3, layers="11-20", start="detector"),
        Job("detector", LOOKS, learning_rate=1e-3, start="detector"),
        Job("warm", LOOKS, learning_rate=1e-3, start="warm"),
        Job("looks", LOOKS, learning_rate=1e-3),
        Job("balanced", BALANCED, learning_rate=1e-3, layers="11-20", start="detector"),
        Job("balanced-warm", BALANCED, learning_rate=1e-3, layers="11-20", start="warm"),
        Job("late", BALANCED, learning_rate=2e-3, layers="15-26", start="detector", ridge=3.0),
        Job("read-warm", READ, 1e-3, epochs=2, layers="11-26", start="warm", ridge=1.0),
        Job("read-frozen", READ, 2e-3, layers="11-26", start="detector", ridge=1.0),
        Job("asked", ASKED, 2e-3, layers="9-24", start="detector", ridge=0.6),
        Job("asked-more", MORE, 2e-3, layers="9-20", start="detector", ridge=0.4),
        Job("asked-warm", ASKED, 1e-3, layers="9-24", start="warm", ridge=1.0),
        Job("asked-more-5e-4", MORE, 5e-4, layers="9-20", start="detector", ridge=0.4),
        Job("asked-more-1e-3", MORE, 1e-3, layers="9-20", start="detector", ridge=0.4),
        Job("asked-more-all", MORE, 2e-3, start="detector", ridge=0.4),
        Job("asked-more-2", MORE, 2e-3, layers="9-20", start="detector", ridge=0.4, seed=2),
        Job("asked-more-3", MORE, 2e-3, layers="9-20", start="detector", ridge=0.4, seed=3),
        Job("plain", PLAIN, 2e-3, layers="12-24", start="detector", ridge=0.4),
        Job("attacked", ATTACKED, 2e-3, layers="12-24", start="detector", ridge=0.4),
        Job("own", OWN, learning_rate=1e-3),
        Job("own-5e-4", OWN),
        Job("paper-2e-4", PAPER, learning_rate=2e-4),
        Job("paper", PAPER),
        Job("paper-1e-3", PAPER, learning_rate=1e-3),
        Job("sentence", replace(LOOKS, wording="sentence"), 1e-3, layers="11-20"),
        Job("varied", replace(LOOKS, wording="varied"), 1e-3, layers="11-20"),
        Job("thought", replace(LOOKS, wording="thought"), 1e-3, layers="11-20"),
    )
}
