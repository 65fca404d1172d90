"""A PEFT LoRA folder as matrices: one pair (B, A) an adapted module, with its scaling alpha/r."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from trainer.shared.failure import Failure
from trainer.shared.io import read_json
from trainer.weights.base_digest import base_digest
from trainer.weights.spectrum import Factors
from trainer.weights.tensor_store import TensorStore

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
KEY = re.compile(r"^base_model\.model\.(.+)\.lora_([AB])\.weight$")
# Features that make an update more than scaling · B·A of linear weights.
UNSUPPORTED = ("use_dora", "lora_bias", "modules_to_save", "fan_in_fan_out", "layer_replication",
               "trainable_token_indices", "target_parameters", "use_qalora")  # fmt: skip


@dataclass(frozen=True)
class LoraFolder:
    folder: Path
    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]  # as in the file
    manifest: dict[str, Any]  # empty where there is none

    def modules(self) -> list[str]:
        """Paths such as model.layers.3.mlp.up_proj, in the file's order."""
        return list(dict.fromkeys(KEY.match(key)[1] for key in self.tensors))

    def key(self, module: str, side: str) -> str:
        return f"base_model.model.{module}.lora_{side}.weight"

    def factors(self, module: str) -> Factors:
        """Without the scaling, as trained."""
        return Factors(self.tensors[self.key(module, "B")], self.tensors[self.key(module, "A")])

    def scaling(self, module: str) -> float:
        rank = matched(self.config.get("rank_pattern"), module, self.config["r"])
        alpha = matched(self.config.get("alpha_pattern"), module, self.config["lora_alpha"])
        return alpha / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def update(self, module: str) -> Factors:
        """What is added to the weight at strength 1."""
        pair = self.factors(module)
        return Factors(self.scaling(module) * pair.b.double(), pair.a.double())


def matched(patterns: dict[str, Any] | None, module: str, default: Any) -> Any:
    """PEFT's rule: the first pattern that matches the module's path or its end."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def read_lora(folder: Path) -> LoraFolder:
    for name in (CONFIG, TENSORS):
        if not (folder / name).is_file():
            raise Failure(
                f"--adapter must be a PEFT adapter folder; got {str(folder)!r}, which holds no "
                f"{name}; pass one such as adapters/safety-r1"
            )
    try:
        config, tensors = read_json(folder / CONFIG), load_file(folder / TENSORS)
    except (json.JSONDecodeError, SafetensorError) as error:
        raise Failure(f"{folder}: an adapter's files must be whole; got {error}") from error
    if config.get("peft_type") != "LORA":
        raise Failure(f"{folder}: peft_type must be LORA; got {config.get('peft_type')!r}")
    for name in UNSUPPORTED:
        if config.get(name):
            raise Failure(f"{folder}: {name} is not supported here; got {config[name]!r}")
    if config.get("bias", "none") != "none":
        raise Failure(f"{folder}: bias must be none; got {config['bias']!r}")
    odd = [key for key in tensors if not KEY.match(key)]
    if odd or not tensors:
        raise Failure(
            f"{folder}: every tensor must be the lora_A or lora_B of a module; "
            f"got {odd[0] if odd else 'no tensor'}"
        )
    for key, tensor in tensors.items():
        match = KEY.match(key)
        other = f"base_model.model.{match[1]}.lora_{'B' if match[2] == 'A' else 'A'}.weight"
        if other not in tensors:
            raise Failure(f"{folder}: lora_A and lora_B must come in pairs; {other} is missing")
        if not tensor.isfinite().all():
            raise Failure(f"{folder}: weights must be finite; {key} holds NaN or infinity")
    manifest_path = folder / "manifest.json"
    manifest = read_json(manifest_path) if manifest_path.is_file() else {}
    return LoraFolder(folder, config, tensors, manifest)


def check_base(adapter: LoraFolder, base: TensorStore) -> str:
    """Refuses an adapter of another base by its shapes and, where a manifest names it, its digest;
    returns the base's digest."""
    for module in adapter.modules():
        name, pair = f"{module}.weight", adapter.factors(module)
        if name not in base.file_of:
            raise Failure(
                f"the adapter must be of this base; it changes {module}, which the base does not "
                "have; pass its own base as --model"
            )
        wanted, got = base.shape(name), (pair.b.shape[0], pair.a.shape[1])
        if wanted != got or pair.b.shape[1] != pair.a.shape[0]:
            raise Failure(
                f"the adapter must be of this base; {module} is {list(wanted)} there and "
                f"{list(got)} in the adapter; pass its own base as --model"
            )
    digest, wanted = base_digest(base.folder), adapter.manifest.get("base_digest")
    if wanted and wanted != digest:
        raise Failure(
            f"the adapter must be of this base; its manifest names {wanted[:12]}…, this base is "
            f"{digest[:12]}…; pass its own base as --model"
        )
    return digest


def adapter_digest(folder: Path) -> str:
    """As the server names an adapter: SHA-256 over the canonical config and the tensor file."""
    total = hashlib.sha256(canonical(read_json(folder / CONFIG)).encode())
    with (folder / TENSORS).open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def canonical(value: Any) -> str:
    """Sorted keys, no white space, numbers as JavaScript writes them."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(k)}:{canonical(value[k])}" for k in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(canonical(item) for item in value) + "]"
    if isinstance(value, float):
        return javascript_number(value)
    return json.dumps(value, ensure_ascii=False)


def javascript_number(value: float) -> str:
    """16.0 → 16, 1e-05 → 0.00001, 1e-07 → 1e-7; both languages write the shortest digits."""
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if 1e-6 <= abs(value) < 1e21:
        digits, _, exponent = repr(value).partition("e")
        if not exponent:
            return digits
        return f"{value:.{len(digits.replace('.', '').lstrip('-')) - 1 - int(exponent)}f}"
    return re.sub(r"e([+-])0*", r"e\1", repr(value))
