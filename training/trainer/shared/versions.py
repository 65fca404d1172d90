"""The versions of Python and of the packages that decide a result's bits."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
