"""Progress with rate and ETA: one rewritten line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time

BAR_WIDTH = 24
PLAIN_INTERVAL_S = 15.0
TERMINAL_INTERVAL_S = 0.2


def clock_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """Counts towards `total` in `unit`; call `advance`, then `close` for the final line."""

    def __init__(self, title: str, total: int, unit: str, *, done: int = 0) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = self.started_from = done
        self.note = ""
        self.started = time.monotonic()
        self.shown = 0.0
        self.is_terminal = sys.stderr.isatty()
        # Of many processes under `accelerate launch` one speaks.
        self.is_silent = os.environ.get("RANK", "0") != "0"

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    def advance(self, count: int = 1, note: str | None = None) -> None:
        self.done += count
        if note is not None:
            self.note = note
        now = time.monotonic()
        interval = TERMINAL_INTERVAL_S if self.is_terminal else PLAIN_INTERVAL_S
        if now - max(self.shown, self.started if not self.is_terminal else 0.0) >= interval:
            self.shown = now
            self.show()

    def line(self) -> str:
        share = min(1.0, self.done / max(1, self.total))
        rate = (self.done - self.started_from) / max(self.elapsed_s, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else 0.0
        bar = "#" * round(share * BAR_WIDTH)
        note = f"  {self.note}" if self.note else ""
        return (
            f"{self.title} [{bar:<{BAR_WIDTH}}] {share:4.0%}  {self.done}/{self.total} {self.unit}"
            f"  {rate:,.0f} {self.unit}/s  ETA {clock_time(max(0.0, left))}{note}"
        )

    def show(self) -> None:
        if self.is_silent:
            return
        if self.is_terminal:
            sys.stderr.write("\r\x1b[2K" + self.line())
        else:
            sys.stderr.write(self.line() + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self.is_silent:
            return
        if self.is_terminal:
            sys.stderr.write("\r\x1b[2K")
        sys.stderr.write(f"{self.title}: {self.done} {self.unit} in {clock_time(self.elapsed_s)}\n")
        sys.stderr.flush()


def say(text: str) -> None:
    """A line for whoever watches; results go to standard output."""
    print(text, file=sys.stderr, flush=True)
