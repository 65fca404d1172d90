"""The most memory in use since a moment: of the process, or of the GPU's tensors."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

from trainer.fit.heap import give_back_freed_memory

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_HIGH_WATER = "5"  # man 5 proc: sets VmHWM to VmRSS


class Peak:
    """Counts from its making. Without /proc (not Linux) there is nothing to read: None."""

    def __init__(self, device: str) -> None:
        self.is_cuda = device == "cuda"
        gc.collect()
        if self.is_cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        elif CLEAR.exists():
            give_back_freed_memory()  # what loading freed would hide as much of what training takes
            CLEAR.write_text(RESET_HIGH_WATER)
            self.before = status_bytes("VmRSS")

    def above(self) -> int | None:
        """Bytes at the highest, above what was there at the beginning."""
        if self.is_cuda:
            return torch.cuda.max_memory_allocated() - self.before
        return status_bytes("VmHWM") - self.before if CLEAR.exists() else None


def status_bytes(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024
