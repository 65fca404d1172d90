"""An adapter folder as it ships: PEFT's two files, a manifest, a card; renamed into place whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from trainer.shared.failure import Failure
from trainer.shared.io import read_json, write_json
from trainer.shared.whole_folder import whole_folder


def check_output(folder: Path) -> None:
    """A folder that is neither an adapter nor made here is never replaced."""
    ours = ("adapter_config.json", "manifest.json")
    if folder.exists() and not any((folder / name).is_file() for name in ours):
        raise Failure(
            f"--output must be new or an adapter folder; got {str(folder)!r}, which holds "
            "something else; choose another name"
        )


def publish(checkpoint: Path, folder: Path, manifest: dict[str, Any], card: str) -> None:
    with whole_folder(folder) as partial:
        config = read_json(checkpoint / "adapter_config.json")
        write_json(partial / "adapter_config.json", dict(sorted(config.items())))
        tensors = "adapter_model.safetensors"
        shutil.copyfile(checkpoint / tensors, partial / tensors)
        add_words(partial, manifest, card)


def publish_model(
    checkpoint: Path, folder: Path, manifest: dict[str, Any], card: str, tokenizer: Any
) -> None:
    """A fully tuned model: the checkpoint's own files without the optimizer's, and the tokenizer's
    of the base, which training does not change."""
    with whole_folder(folder) as partial:
        skipped = shutil.ignore_patterns("optimizer.safetensors", "state.json", "README.md")
        shutil.copytree(checkpoint, partial, ignore=skipped, dirs_exist_ok=True)
        tokenizer.save_pretrained(partial)
        add_words(partial, manifest, card)


def add_words(partial: Path, manifest: dict[str, Any], card: str) -> None:
    write_json(partial / "manifest.json", manifest)
    (partial / "README.md").write_text(card, encoding="utf-8")
