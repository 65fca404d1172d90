"""Memory that the C library keeps after it was freed, for the next allocation that fits.

Passes come in many lengths, and tensors of one length leave holes that those of a longer one do
not fit: on a CPU, the process's peak is the longest passes plus the holes of all before them.
Giving them back costs a few per cent of a pass, so it is done before long passes only: a short one
cannot set the peak (docs/LOG.md).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

LONG = 0.8  # of the longest pass so far, in tokens


def give_back_freed_memory() -> None:
    """Does nothing where the C library is not glibc."""
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Heap:
    """Asked before every pass on a CPU; passes of one length only leave no holes."""

    def __init__(self, give_back: Callable[[], None] = give_back_freed_memory) -> None:
        self.give_back = give_back
        self.longest = 0  # tokens of a pass
        self.lengths: set[int] = set()  # of the passes since memory was last given back

    def make_room(self, tokens: int) -> None:
        """Before a pass of `tokens`, padding counted."""
        self.longest = max(self.longest, tokens)
        if tokens >= LONG * self.longest and self.lengths - {tokens}:
            self.give_back()
            self.lengths.clear()
        self.lengths.add(tokens)
