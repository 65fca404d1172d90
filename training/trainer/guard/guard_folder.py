"""A guard as it ships: PEFT's two files, probe.safetensors, the manifest, the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors.torch import save_file

from trainer.guard.probe import Probe
from trainer.guard.verdict import Tokens
from trainer.publish.publish import add_words
from trainer.shared.io import read_json, write_json
from trainer.shared.whole_folder import whole_folder

PROBE_FILE, PROBE_TENSOR = "probe.safetensors", "probe.weight"


def save_adapter(model: PeftModel, folder: Path, tokens: Tokens) -> None:
    """With the invocation token in its config: stock PEFT then applies it from that token on."""
    model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    config = read_json(path) | {"alora_invocation_tokens": [tokens.guard] * tokens.suffix}
    config["target_modules"] = sorted(config["target_modules"])
    write_json(path, dict(sorted(config.items())))


def publish_guard(
    model: PeftModel,
    folder: Path,
    tokens: Tokens,
    probe: Probe | None,
    manifest: dict[str, Any],
    card: str,
) -> None:
    with whole_folder(folder) as partial:
        save_adapter(model, partial, tokens)
        if probe is not None:
            weight = probe.weight.float().reshape(1, -1).contiguous()
            save_file({PROBE_TENSOR: weight}, partial / PROBE_FILE)
        add_words(partial, manifest, card)
