"""A folder that appears whole or not at all: written beside its place, then renamed into it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from trainer.shared.failure import Failure
from trainer.shared.io import replace_folder


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields the folder to write into. After an error nothing of it is left and what was in
    `folder` before is untouched; a full disk becomes a `Failure`."""
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        for path in partial.iterdir():
            path.chmod(0o644)
        replace_folder(partial, folder)
    # safetensors reports the system's errors as its own.
    except (OSError, SafetensorError) as error:
        raise Failure(
            f"--output must be writable and its disk must have room; got {error}; nothing was "
            f"left at {str(folder)!r} that was not there before"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
