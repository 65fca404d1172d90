"""The machine of a run: in words for the page, as a slug for the folder of its results."""

from __future__ import annotations

import os
import platform
import re

import torch

from trainer.shared.cpu import cpu_name, first_core, read_cpuinfo

# AMD's families of server cores; of family 25, Zen 4 is the one with AVX-512.
ZEN_OF_FAMILY = {"23": "zen2", "25": "zen3", "26": "zen5"}
INSTRUCTION_SETS = {"amx_tile": "amx", "avx512f": "avx512", "avx2": "avx2"}  # widest first
NOISE = re.compile(r"\((r|tm)\)|\b(amd|intel|processor|cpu|\d+-core)\b|@.*")


def machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{cpu_name()}, {os.cpu_count()} cores"


def machine_slug(device: str) -> str:
    if device == "cuda":
        return dashed(torch.cuda.get_device_name())
    return cpu_slug(read_cpuinfo()) or dashed(platform.machine())


def cpu_slug(text: str) -> str:
    """Model and instruction set from the text of /proc/cpuinfo, such as epyc-zen3-avx2."""
    found = first_core(text)
    flags = set(found.get("flags", "").split())
    zen = None
    if found.get("vendor_id") == "AuthenticAMD":
        zen = ZEN_OF_FAMILY.get(found.get("cpu family", ""))
        zen = "zen4" if zen == "zen3" and "avx512f" in flags else zen
    # A Zen with AVX-512 is told by its name alone.
    widest = None if zen and "avx512f" in flags else widest_of(flags)
    model = dashed(NOISE.sub(" ", found.get("model name", "").lower()))
    return "-".join(part for part in (model, zen, widest) if part)


def widest_of(flags: set[str]) -> str | None:
    return next((name for flag, name in INSTRUCTION_SETS.items() if flag in flags), None)


def dashed(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
