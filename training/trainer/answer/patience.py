"""How long a server that is still loading its model is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from trainer.shared.progress import clock_time, say

WAIT_S = 600
PAUSE_S = 1.0  # between two looks
SAY_EVERY_S = 15.0


@dataclass(frozen=True)
class Patience:
    """At most `seconds`; 0 waits for nothing."""

    seconds: int = WAIT_S
    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep

    def until(self, try_once: Callable[[], str | None]) -> None:
        """Looks until there is nothing to wait for (None) or the time is over; says what it is."""
        begun = self.now()
        told = float("-inf")
        while (reason := try_once()) is not None:
            waited = self.now() - begun
            if waited + PAUSE_S > self.seconds:
                return
            if waited - told >= SAY_EVERY_S:
                told = waited
                say(f"waiting {clock_time(waited)} of {clock_time(self.seconds)}: {reason}")
            self.pause(PAUSE_S)
