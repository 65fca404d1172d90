"""What tells a base from any other, as the server computes it too."""

from __future__ import annotations

from pathlib import Path

from trainer.shared.failure import Failure
from trainer.shared.gguf_folder import gguf_digest, is_gguf, joined_digest
from trainer.shared.io import read_json

NOTE = "gguf.json"  # of a folder that was exported from a GGUF file


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
    """What tells a base from any other, as the server has it: the digest of its weights, or of the
    GGUF file that these very weights were exported from."""
    if is_gguf(folder):
        return gguf_digest(folder)
    digest, note = weights_digest(folder), folder / NOTE
    said = read_json(note) if note.is_file() else {}
    return said["base_digest"] if said.get("weights_digest") == digest else digest


def weights_digest(folder: Path) -> str:
    """The SHA-256 of the one file, or that of the shards' hex SHA-256s joined in name order."""
    return joined_digest(weight_files(folder))
