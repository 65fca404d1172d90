"""The stages that make the tiny reasoner, read from configs/stages.json and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from trainer.shared.failure import Failure
from trainer.shared.recipe import CONFIGS
from trainer.world.grammar import Kind

STAGES = CONFIGS / "stages.json"
NAMES = ("skills", "judge", "align", "continue", "continue without harmful compliance")


@dataclass(frozen=True)
class Stage:
    """How long and on what. `mix` gives each kind's share of the examples."""

    name: str
    examples: int
    learning_rate: float
    mix: dict[Kind, float]
    refuses_harmful: bool = False
    judges: bool = True  # how-to thoughts begin with a judgement of the request
    tokens_per_batch: int = 6144
    warmup: float = 0.03  # share of the examples
    final_rate: float = 0.02  # share of the learning rate left at the end
    weight_decay: float = 0.05


def read_stages(path: Path = STAGES) -> dict[str, Stage]:
    """Name -> stage, in the order in which they run."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Failure(f"{path} must be a JSON file of stages; got {error}; restore it") from error
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise Failure(f"{path} must be a list of stages; got {str(values)[:80]}; restore it")
    names = tuple(value.get("name") for value in values)
    if names != NAMES:
        raise Failure(f"{path} must hold the stages {', '.join(NAMES)}; got {names}; restore it")
    return {value["name"]: parsed(value, path) for value in values}


def parsed(value: dict[str, Any], path: Path) -> Stage:
    name = value["name"]
    known = {field.name for field in fields(Stage)}
    if set(value) != known:
        wrong = ", ".join(sorted(known ^ set(value)))
        raise Failure(f"{path}: stage {name}: missing or unknown: {wrong}; name every value once")
    mix = value["mix"]
    is_mix = isinstance(mix, dict) and mix and set(mix) <= set(get_args(Kind))
    if not is_mix or any(not is_number(share, 1.0) for share in mix.values()):
        raise Failure(
            f"{path}: stage {name}: mix must give kinds among {', '.join(get_args(Kind))} their "
            f"shares above 0; got {mix!r}"
        )
    if abs(sum(mix.values()) - 1) > 1e-9:
        raise Failure(
            f"{path}: stage {name}: the shares of a mix must sum to 1; got {sum(mix.values()):g}"
        )
    for key in ("refuses_harmful", "judges"):
        if not isinstance(value[key], bool):
            raise Failure(f"{path}: stage {name}: {key} must be true or false; got {value[key]!r}")
    for key in ("examples", "tokens_per_batch"):
        if not isinstance(value[key], int) or not is_number(value[key], 1e9):
            raise Failure(
                f"{path}: stage {name}: {key} must be a whole number above 0; got {value[key]!r}"
            )
    for key in ("learning_rate", "warmup", "final_rate", "weight_decay"):
        if not is_number(value[key], 1.0):
            raise Failure(
                f"{path}: stage {name}: {key} must be above 0 and at most 1; got {value[key]!r}"
            )
    return Stage(**value)


def is_number(value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most
