"""The repository that the trainer runs in, and how its committed files name other folders."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def logical_name(folder: Path, root: Path = ROOT) -> str:
    """Relative to the repository, else the folder's own name: never a machine's path."""
    resolved = folder.resolve()
    if resolved.is_relative_to(root):
        return resolved.relative_to(root).as_posix()
    return folder.name
