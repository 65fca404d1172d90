"""The processor that this runs on, as Linux describes it."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def cpu_name() -> str:
    name = first_core(read_cpuinfo()).get("model name")
    return name or platform.processor() or platform.machine()


def read_cpuinfo() -> str:
    """Empty where the system has no such file."""
    return CPUINFO.read_text(encoding="utf-8") if CPUINFO.is_file() else ""


def first_core(cpuinfo: str) -> dict[str, str]:
    """Its facts by name, such as "flags"."""
    lines = (line.partition(":") for line in cpuinfo.split("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
