"""An adapter folder as it ships: PEFT's two files, a manifest, a card; renamed into place whole."""

from __future__ import annotations

import hashlib
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainer.shared.failure import Failure
from trainer.make_models.reasoner import read_json, write_json
from trainer.shared.whole_folder import whole_folder

PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that a checkpoint is read from, in name order; others beside them
    (an original release's own format) are no part of it."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        return [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    raise Failure(
        f"a base must hold model.safetensors, or its index and shards; got {str(folder)!r}, which "
        "has neither; save it with save_pretrained"
    )


def base_digest(folder: Path) -> str:
    """What tells a base from any other, as the server computes it from hashes that it keeps:
    the SHA-256 of the one file, or that of the shards' hex SHA-256s joined in name order."""
    digests = [file_sha256(path) for path in weight_files(folder)]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
