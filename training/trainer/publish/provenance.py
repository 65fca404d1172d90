"""Where an adapter comes from: all that is needed to train it again, and to tell whether it was."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.shared.repository import ROOT, logical_name
from trainer.shared.versions import versions
from trainer.weights.base_digest import base_digest

SOURCES = "training"  # changes elsewhere (another adapter just written) train nothing differently
GIT_TIMEOUT_S = 20
CHANGED = "+changes"
OUTSIDE_GIT = "outside git"  # where a file must hold a text


def provenance(
    *,
    base: Path,
    data: str,
    data_sha256: str,
    config: Mapping[str, Any],
    seed: int,
    root: Path = ROOT,
) -> dict[str, Any]:
    """The manifest's fields of that name. `data` says in words what `data_sha256` is the hash of;
    `config` is the recipe with every flag applied."""
    return {
        "base_model": logical_name(base, root),
        "base_digest": base_digest(base),
        "data": data,
        "data_sha256": data_sha256,
        "config": dict(config),
        "seed": seed,
        "commit": commit(root),
        "versions": versions(),
    }


def commit(root: Path = ROOT) -> str | None:
    """The commit that the trainer's sources are of, with "+changes" where they differ from it; None
    outside git, also where `root` only lies inside somebody else's repository."""
    top = git(root, "rev-parse", "--show-toplevel")
    head = git(root, "rev-parse", "HEAD")
    if not top or not head or Path(top).resolve() != root.resolve():
        return None
    changes = git(root, "status", "--porcelain", "--", SOURCES)
    return head if changes == "" else f"{head}{CHANGED}"


def provenance_rows(
    manifest: Mapping[str, Any], digest: str | None = None, base: str | None = None
) -> list[list[str]]:
    """A card's rows of where it comes from; `base` as it is shown, else the manifest's."""
    return [
        ["", ""],
        *([["adapter digest, as the server names it", f"`{digest}`"]] if digest else []),
        ["base", base or f"`{manifest['base_model']}`"],
        ["base digest (SHA-256)", f"`{manifest['base_digest']}`"],
        ["data", manifest["data"]],
        ["data hash (SHA-256)", f"`{manifest['data_sha256']}`"],
        ["seed", str(manifest["seed"])],
        ["commit", commit_words(manifest.get("commit"))],
        [
            "versions",
            ", ".join(f"{name} {number}" for name, number in manifest["versions"].items()),
        ],
    ]


def commit_words(commit: str | None, digits: int | None = None) -> str:
    """As a page quotes it: sources that differed from their commit are never left unsaid."""
    if commit is None:
        return "not known"
    head = commit.removesuffix(CHANGED)
    return f"`{head[:digits]}`{'' if head == commit else ' with changes'}"


def recorded_commit(saved: Mapping[str, Any], digits: int | None = None) -> str:
    """The commit that a saved result states, if it is of the kind that does."""
    if "commit" not in saved:
        return "its commit was not recorded"
    return f"commit {commit_words(saved['commit'], digits)}"


def git(root: Path, *arguments: str) -> str | None:
    """What git says; None where there is no git, or it refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
