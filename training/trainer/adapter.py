"""What is trained: a LoRA adapter that PEFT puts on a base, or all of the base's weights."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from trainer.recipe import Recipe, layer_span


def prepared(model: nn.Module, recipe: Recipe, base_name: str, seed: int) -> nn.Module:
    """A PEFT model with only the adapter trainable; for mode full the model itself, all trainable.

    `base_name` is what adapter_config.json will say; never a path of this machine.
    """
    torch.manual_seed(seed)
    if recipe.mode == "full":
        return model.requires_grad_(True)
    span = layer_span(recipe.layers, model.config.num_hidden_layers)
    is_everywhere = len(span) == model.config.num_hidden_layers
    model.name_or_path = base_name
    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=list(recipe.target_modules),
        layers_to_transform=None if is_everywhere else list(span),
        bias="none",
    )
    return get_peft_model(model, config)


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
