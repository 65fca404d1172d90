"""A carrier: the base with adapters at strengths, whose keys and values the guard reads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from trainer.shared.failure import Failure
from trainer.weights.lora_folder import LoraFolder, adapter_digest, read_lora


@dataclass(frozen=True)
class Applied:
    folder: Path
    scale: float


@dataclass(frozen=True)
class Carrier:
    applied: tuple[Applied, ...] = ()

    @property
    def name(self) -> str:
        parts = [f"{a.folder.name}@{a.scale:g}" for a in self.applied]
        return "+".join(parts) or "base"

    def as_manifest(self) -> list[dict[str, object]]:
        return [{"digest": adapter_digest(a.folder), "scale": a.scale} for a in self.applied]


BASE = Carrier()


def read_carrier(text: str, folder: Path) -> Carrier:
    """ "base", or names of sub-folders of `folder` with strengths: safety-r1@0.5+terse-r1."""
    if text == "base":
        return BASE
    applied = []
    for part in text.split("+"):
        name, mark, scale = part.partition("@")
        try:
            number = float(scale) if mark else 1.0
        except ValueError:
            number = -1.0
        if not 0 < number <= 10:
            raise Failure(
                f"a carrier's strength must be a number above 0 and at most 10; got {part!r}; "
                "write such as safety-r1@0.5+terse-r1@1"
            )
        read_lora(folder / name)  # says what is wrong with it
        applied.append(Applied(folder / name, number))
    return Carrier(tuple(applied))


def weight_name(model: torch.nn.Module, module: str) -> str:
    """Of the base's weight, also where PEFT has wrapped the module."""
    inside = model.get_submodule(module)
    return f"{module}.base_layer.weight" if hasattr(inside, "base_layer") else f"{module}.weight"


@contextmanager
def carried(
    model: torch.nn.Module, carrier: Carrier, dtype: torch.dtype = torch.float32
) -> Iterator[torch.nn.Module]:
    """The carrier over `model`, a causal model with or without a guard on it: its guard is off and
    the carrier's updates are added. Afterwards the weights are the old bits. Another `dtype` than
    float32 gives a copy in it, made after the updates were added."""
    kept: dict[str, torch.Tensor] = {}
    guards = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    try:
        for guard in guards:
            guard.enable_adapters(False)
        for applied in carrier.applied:
            add(model, read_lora(applied.folder), applied.scale, kept)
        yield model if dtype is torch.float32 else copy.deepcopy(model).to(dtype)
    finally:
        for name, weight in kept.items():
            model.get_parameter(name).data.copy_(weight)
        for guard in guards:
            guard.enable_adapters(True)


def add(
    model: torch.nn.Module, lora: LoraFolder, scale: float, kept: dict[str, torch.Tensor]
) -> None:
    for module in lora.modules():
        name = weight_name(model, module)
        weight = model.get_parameter(name).data
        kept.setdefault(name, weight.clone())
        pair = lora.update(module)
        weight += (scale * (pair.b @ pair.a)).to(weight)
