"""The base of a run: its model, the recipe that fits it, the adapter that is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from trainer.answer.backend import Backend
from trainer.answer.exam_backend import exam_backend
from trainer.fit.adapter import recipe_of
from trainer.publish.publish import check_output
from trainer.shared.device import check_device
from trainer.shared.failure import Failure
from trainer.shared.gguf_folder import checkpoint_folder
from trainer.shared.io import load_model
from trainer.shared.recipe import Config, Recipe, default_config, layer_span, read_config
from trainer.shared.repository import logical_name
from trainer.train_adapter.options import TrainOptions
from trainer.weights.lora_folder import LoraFolder, read_lora

EMBEDDED = "models/tiny-reasoner"
SHAPE = ("mode", "rank", "alpha", "dropout", "target_modules", "layers")  # an adapter has its own


@dataclass(frozen=True)
class Base:
    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str  # as an adapter states it
    config: Config
    recipe: Recipe  # of the config, or of the adapter that is trained on
    source: str | None  # of the data; None: generated
    adapter: LoraFolder | None  # to be trained on
    backend: Backend

    @property
    def context(self) -> int:
        return self.model.config.max_position_embeddings


def prepared_base(options: TrainOptions) -> Base:
    check_device(options.device)
    check_output(options.output)
    model, tokenizer, config, name = base_and_config(options)
    layers, recipe = model.config.num_hidden_layers, config.recipe
    adapter = read_lora(options.adapter) if options.adapter else None
    if adapter:
        check_shape_flags(options.overrides)
        recipe = recipe_of(adapter, recipe, layers)
    layer_span(recipe.layers, layers)
    return Base(
        model=model,
        tokenizer=tokenizer,
        name=name,
        config=config,
        recipe=recipe,
        source=options.data or config.data,
        adapter=adapter,
        backend=exam_backend(model, tokenizer),
    )


def check_shape_flags(overrides: dict[str, Any]) -> None:
    given = [name for name in SHAPE if overrides.get(name) is not None]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise Failure(
            f"--adapter brings its own shape; got {flags} beside it; leave these flags out"
        )


def base_and_config(
    options: TrainOptions,
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase, Config, str]:
    """And the base's name, as an adapter states it. A config file may name the model; without one,
    the model's size names the config."""
    given = read_config(options.config, options.overrides) if options.config else None
    name = options.model or (given and given.model) or EMBEDDED
    dtype = options.overrides.get("dtype") or (given.recipe.dtype if given else "auto")
    name = checkpoint_folder(name, dtype)
    model, tokenizer = load_model(name, dtype)
    if given is None:
        size = sum(p.numel() for p in model.parameters())
        given = read_config(default_config(size), options.overrides)
    return model, tokenizer, given, logical_name(Path(name)) if Path(name).is_dir() else str(name)
