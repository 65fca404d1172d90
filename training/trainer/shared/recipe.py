"""How a model is trained: a JSON file in configs/, each value of which a flag can override."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from trainer.shared.failure import Failure

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
MODULES = ATTENTION + MLP
TINY_PARAMETERS = 10_000_000  # below this the tiny model's recipe is the default

Mode = Literal["lora", "full"]
Reg = Literal["none", "col", "both"]
Dtype = Literal["auto", "float32", "bfloat16"]
MODES: tuple[Mode, ...] = get_args(Mode)
REGS: tuple[Reg, ...] = get_args(Reg)
DTYPES: tuple[Dtype, ...] = get_args(Dtype)

# The paper's thirds of 48 layers: first layer of each and how many.
PAPER_LAYERS = 48
THIRDS = {"early": 5, "middle": 17, "late": 25}


@dataclass(frozen=True)
class Recipe:
    """The method's values. With mode full rank, alpha, dropout, modules, layers say nothing."""

    mode: Mode
    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    layers: str  # all, early, middle, late, or FIRST-LAST (both counted, from 0)
    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int  # rows of one process in one forward pass, at most
    grad_accum: int  # a step takes batch_size * grad_accum rows of every process
    max_length: int | None  # tokens of an example; None: the model's context
    dtype: Dtype  # of the weights; auto: as stored
    reg: Reg
    beta: float  # weight of the penalty

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"target_modules": list(self.target_modules)}


@dataclass(frozen=True)
class Config:
    """A config file: the recipe, and for which model and data it was written, if for any."""

    recipe: Recipe
    model: str | None
    data: str | None
    gradient_checkpointing: bool


def layer_span(layers: str, num_layers: int) -> range:
    """The adapted layers. The named thirds lie where the paper's do: 5-20, 17-32, 25-40 of 48."""
    if layers == "all":
        return range(num_layers)
    if layers in THIRDS:
        first = round(num_layers * THIRDS[layers] / PAPER_LAYERS)
        return range(first, min(num_layers, first + max(1, round(num_layers / 3))))
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", layers)
    if found:
        first, last = int(found[1]), int(found[2] or found[1])
        if first <= last < num_layers:
            return range(first, last + 1)
    raise Failure(
        f"layers must be all, early, middle, late or FIRST-LAST within 0-{num_layers - 1} for this "
        f"model; got {layers}"
    )


def default_config(parameters: int) -> Path:
    return CONFIGS / ("tiny.json" if parameters < TINY_PARAMETERS else "method.json")


def read_config(path: Path, overrides: dict[str, Any], *, num_layers: int | None = None) -> Config:
    """`overrides` holds the flags that were given. Layers are checked once the model is known."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise Failure(
            f"--config must be a JSON file; got {str(path)!r}, which is not there; "
            "see training/configs"
        ) from error
    except json.JSONDecodeError as error:
        raise Failure(
            f"{path}:{error.lineno}: a config must be JSON; got {error.msg}; fix that line"
        ) from error
    known = {field.name for field in fields(Recipe)}
    optional = {"model": None, "data": None, "gradient_checkpointing": False}
    given = set(values) if isinstance(values, dict) else set()
    if not known <= given or given - known - set(optional):
        wrong = sorted((known - given) | (given - known - set(optional)))
        raise Failure(
            f"{path}: a config must hold exactly {', '.join(sorted(known))} and may hold "
            f"{', '.join(optional)}; missing or unknown: {', '.join(wrong) or repr(values)[:80]}"
        )
    rest = {name: values.pop(name, default) for name, default in optional.items()}
    values |= {name: value for name, value in overrides.items() if value is not None}
    recipe = Recipe(**values)
    if isinstance(recipe.target_modules, list):
        recipe = replace(recipe, target_modules=tuple(recipe.target_modules))
    check(recipe)
    if num_layers is not None:
        layer_span(recipe.layers, num_layers)
    return Config(recipe=recipe, **rest)


def check(recipe: Recipe) -> None:
    modules = recipe.target_modules
    unknown = [name for name in modules if name not in MODULES]
    if unknown or not modules:
        raise Failure(
            f"target_modules must be among {', '.join(MODULES)}; got "
            f"{', '.join(map(str, unknown)) or 'none'}; try --target-modules up_proj"
        )
    for name, allowed in (("mode", MODES), ("reg", REGS), ("dtype", DTYPES)):
        value = getattr(recipe, name)
        if value not in allowed:
            raise Failure(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    if recipe.mode == "full" and recipe.reg != "none":
        raise Failure(
            f"reg penalises a low-rank update; got {recipe.reg} with mode full; use --mode lora"
        )
    if recipe.max_length is not None:
        check_number("max_length", recipe.max_length, 2, 10_000_000)
    for name, low, high in (
        ("rank", 1, 4096),
        ("alpha", 1e-6, 1e6),
        ("dropout", 0.0, 0.9),
        ("learning_rate", 1e-9, 1.0),
        ("weight_decay", 0.0, 10.0),
        ("epochs", 1, 1000),
        ("batch_size", 1, 4096),
        ("grad_accum", 1, 4096),
        ("beta", 0.0, 1e6),
    ):
        check_number(name, getattr(recipe, name), low, high)


def check_number(name: str, value: object, low: float, high: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        flag = name.replace("_", "-")
        raise Failure(f"{name} must be between {low} and {high}; got {value!r}; change --{flag}")
