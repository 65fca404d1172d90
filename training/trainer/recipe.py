"""How an adapter is trained: a JSON file in configs/, each value of which a flag can override."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from trainer.failure import Failure

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TINY_PARAMETERS = 10_000_000  # below this the tiny model's learning rate is the default


@dataclass(frozen=True)
class Recipe:
    """The method's values (rank 1, up_proj, alpha 16, …); the learning rate follows the size."""

    rank: int
    alpha: float
    dropout: float
    modules: tuple[str, ...]
    layers: tuple[int, int] | None  # first and last adapted layer, both counted; None: all
    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int  # rows

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def default_config(parameters: int) -> Path:
    return CONFIGS / ("tiny.json" if parameters < TINY_PARAMETERS else "method.json")


def read_recipe(path: Path, overrides: dict[str, Any], *, num_layers: int) -> Recipe:
    """`overrides` holds only the flags that were given."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Failure(
            f"--config must be a JSON file; got {str(path)!r}, which is not there; "
            "see training/configs"
        ) from error
    except json.JSONDecodeError as error:
        raise Failure(
            f"{path}:{error.lineno}: a config must be JSON; got {error.msg}; fix that line"
        ) from error
    known = {field.name for field in fields(Recipe)}
    if not isinstance(values, dict) or set(values) != known:
        raise Failure(
            f"{path}: a config must hold exactly {', '.join(sorted(known))}; "
            f"got {', '.join(sorted(values)) if isinstance(values, dict) else values!r}"
        )
    recipe = Recipe(**values)
    recipe = replace(recipe, modules=tuple(recipe.modules))
    recipe = replace(recipe, **{k: v for k, v in overrides.items() if v is not None})
    if recipe.layers is not None:
        recipe = replace(recipe, layers=tuple(recipe.layers))
    check(recipe, num_layers)
    return recipe


def check(recipe: Recipe, num_layers: int) -> None:
    unknown = [name for name in recipe.modules if name not in MODULES]
    if unknown or not recipe.modules:
        raise Failure(
            f"modules must be among {', '.join(MODULES)}; got {', '.join(unknown) or 'none'}; "
            "try --modules up_proj"
        )
    for name, low, high in (
        ("rank", 1, 256),
        ("epochs", 1, 1000),
        ("batch_size", 1, 4096),
        ("learning_rate", 1e-9, 1.0),
        ("dropout", 0.0, 0.9),
    ):
        value = getattr(recipe, name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise Failure(
                f"{name} must be between {low} and {high}; got {value!r}; change --{name}"
            )
    if recipe.layers is not None:
        first, last = recipe.layers
        if not 0 <= first <= last < num_layers:
            raise Failure(
                f"layers must be FIRST-LAST within 0-{num_layers - 1} for this model; "
                f"got {first}-{last}"
            )
