"""What tells a base from any other, as the server computes it too."""

from __future__ import annotations

import hashlib
from pathlib import Path

from trainer.shared.failure import Failure
from trainer.shared.io import read_json


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
