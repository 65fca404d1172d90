"""A GGUF file as the folder that transformers loads, made once by the server's own exporter."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from trainer.shared.failure import Failure
from trainer.shared.repository import ROOT

PART = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE)
EXPORTER = Path("scripts") / "export-model.mjs"


def is_gguf(name: Path | str) -> bool:
    return str(name).lower().endswith(".gguf")


def checkpoint_folder(name: Path | str, dtype: str | None = "auto") -> Path | str:
    """Of a GGUF file its exported folder; anything else as it is. dtype auto: float32, exactly the
    file's numbers. The folder is called as the file, which is what manifests will say."""
    if not is_gguf(name) or not Path(name).is_file():
        return name
    file = Path(name)
    kind = "float32" if dtype in (None, "auto") else dtype
    title = PART.sub("", file.name)[: -len(".gguf")]
    folder = cache_root() / "exports" / f"{gguf_digest(file)[:32]}-{kind}" / title
    if not folder.is_dir():
        export(file, folder, kind)
    return folder


def gguf_digest(file: Path) -> str:
    """What adapters name the file by: its SHA-256, or that of its parts' joined in name order."""
    return joined_digest(parts_of(file))


def joined_digest(paths: Sequence[Path]) -> str:
    """The SHA-256 of the one file, or that of the files' hex SHA-256s joined in the given order."""
    digests = [file_sha256(path) for path in paths]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def parts_of(file: Path) -> list[Path]:
    part = PART.search(file.name)
    if part is None:
        return [file]
    names = (
        f"{file.name[: part.start()]}-{number:05d}-of-{part[2]}{file.name[part.end() :]}"
        for number in range(1, int(part[2]) + 1)
    )
    paths = [file.with_name(name) for name in names]
    for path in paths:
        if not path.is_file():
            raise Failure(f"a split GGUF file must be whole; {path.name} is missing beside it")
    return paths


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_root() -> Path:
    """The server's, by the same variables."""
    own = os.environ.get("DUTYFREE_CACHE_DIR")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dutyfree"


def export(file: Path, folder: Path, dtype: str) -> None:
    node = shutil.which("node")
    if node is None or not (ROOT / EXPORTER).is_file():
        raise Failure(
            f"a GGUF model needs Node and the whole repository, whose server reads it; got "
            f"{str(file)!r}; export it elsewhere with `npm run export-model` and pass the folder"
        )
    command = [node, str(ROOT / EXPORTER), "--model", str(file.resolve())]
    done = subprocess.run([*command, "--output", str(folder), "--dtype", dtype], check=False)
    # Of several processes that start at once, one writes it.
    if done.returncode != 0 and not folder.is_dir():
        raise Failure(f"{str(file)!r} was not exported; the lines above say why")
