"""An adapter folder as it ships: PEFT's two files, a manifest, a card; renamed into place whole."""

from __future__ import annotations

import hashlib
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trainer.failure import Failure
from trainer.reasoner import read_json, replace_folder, write_json

PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def base_digest(folder: Path) -> str:
    """SHA-256 over the base's safetensors files, in name order."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def logical_name(folder: Path, root: Path) -> str:
    """How a committed file names the base: relative to the repository, never a machine's path."""
    resolved = folder.resolve()
    if resolved.is_relative_to(root):
        return resolved.relative_to(root).as_posix()
    return folder.name


def check_output(folder: Path) -> None:
    """A folder that is not an adapter is never replaced."""
    if folder.exists() and not (folder / "adapter_config.json").is_file():
        raise Failure(
            f"--output must be new or an adapter folder; got {str(folder)!r}, which holds "
            "something else; choose another name"
        )


def publish(checkpoint: Path, folder: Path, manifest: dict[str, Any], card: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    config = read_json(checkpoint / "adapter_config.json")
    write_json(partial / "adapter_config.json", dict(sorted(config.items())))
    shutil.copyfile(checkpoint / "adapter_model.safetensors", partial / "adapter_model.safetensors")
    write_json(partial / "manifest.json", manifest)
    (partial / "README.md").write_text(card, encoding="utf-8")
    replace_folder(partial, folder)
