"""Values of flags, checked: what argparse's `type` is given."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0; got {text!r}")
    return int(text)


def fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 100; got {text!r}")
    return value


def whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number; got {text!r}")
    return int(text)


def byte_count(text: str) -> int:
    """ "4GiB" -> 4294967296."""
    number = text.lower().removesuffix("gib")
    try:
        return int(float(number) * (1 << 30 if number != text.lower() else 1))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be a number of bytes, or of GiB such as 4GiB; got {text!r}"
        ) from error


def names(text: str) -> tuple[str, ...]:
    """A comma list."""
    return tuple(text.split(","))
