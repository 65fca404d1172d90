"""What is trained: a LoRA adapter that PEFT puts on a base, or all of the base's weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from trainer.shared.failure import Failure
from trainer.shared.recipe import Recipe, check, layer_span
from trainer.weights.lora_folder import LoraFolder, check_base
from trainer.weights.tensor_store import TensorStore

LAYER = re.compile(r"\.layers\.(\d+)\.")


def prepared(model: nn.Module, recipe: Recipe, base_name: str, seed: int) -> nn.Module:
    """A PEFT model with only the adapter trainable; for mode full the model itself, all trainable.

    `base_name` is what adapter_config.json will say; never a path of this machine.
    """
    if recipe.mode == "full":
        torch.manual_seed(seed)
        return model.requires_grad_(True)
    span = layer_span(recipe.layers, model.config.num_hidden_layers)
    is_everywhere = len(span) == model.config.num_hidden_layers
    return with_lora(
        model, base_name, seed, rank=recipe.rank, alpha=recipe.alpha, dropout=recipe.dropout,
        modules=recipe.target_modules, layers=None if is_everywhere else list(span),
    )  # fmt: skip


def with_lora(
    model: nn.Module,
    base_name: str,
    seed: int,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    modules: Sequence[str],
    layers: list[int] | None = None,
) -> PeftModel:
    """A fresh adapter on these modules, of all layers unless said; only it is trainable."""
    torch.manual_seed(seed)
    model.name_or_path = base_name
    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(modules),
        layers_to_transform=layers,
        bias="none",
    )
    return get_peft_model(model, config)


def continued(model: nn.Module, adapter: LoraFolder, base_name: str, seed: int) -> nn.Module:
    """An adapter that is there, whoever made it, to be trained on."""
    check_base(adapter, TensorStore(model_folder(model)))
    torch.manual_seed(seed)
    model.name_or_path = base_name
    adapted = PeftModel.from_pretrained(model, adapter.folder, is_trainable=True)
    adapted.peft_config["default"].base_model_name_or_path = base_name
    return adapted


def recipe_of(adapter: LoraFolder, recipe: Recipe, num_layers: int) -> Recipe:
    """`recipe` with the shape that the adapter has."""
    config = adapter.config
    layers = sorted(int(m[1]) for name in adapter.modules() if (m := LAYER.search(name)))
    span = range(layers[0], layers[-1] + 1)
    if set(layers) != set(span):
        raise Failure(
            f"--adapter must adapt layers without gaps to be trained on; got {layers}; "
            "train a new one"
        )
    shaped = replace(
        recipe,
        mode="lora",
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config.get("lora_dropout", 0.0),
        target_modules=tuple(sorted({name.rsplit(".", 1)[-1] for name in adapter.modules()})),
        layers="all" if len(span) == num_layers else f"{span[0]}-{span[-1]}",
    )
    check(shaped)
    return shaped


def model_folder(model: nn.Module) -> Path:
    """Where a base's files lie: the folder it was loaded from, or the hub's cache of it."""
    path = Path(model.name_or_path)
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model.name_or_path, local_files_only=True))


def first_trained_layer(model: nn.Module) -> int | None:
    """The lowest layer with a trained parameter; None when something outside them is trained."""
    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    inside = {id(p) for layer in causal.model.layers for p in layer.parameters()}
    if any(p.requires_grad and id(p) not in inside for p in causal.parameters()):
        return None
    trained = (
        index
        for index, layer in enumerate(causal.model.layers)
        if any(p.requires_grad for p in layer.parameters())
    )
    return next(trained, None)


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
