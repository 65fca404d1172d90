r"""The final answer in a text: the last \boxed{…}, an integer, the letter of a choice. Pure."""

from __future__ import annotations

import re

BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
INTEGER = re.compile(r"-?\d+")
# What may stand around a number or a letter in a box.
DRESS = re.compile(r"\\(?:text|mathrm|textbf|mathbf|left|right|displaystyle)|[{}()\[\]$\s,*.\\]|°")
LETTER = re.compile(r"[A-J]")
# How answers name their choice, the surest way first; of one way the last place counts.
NAMED = (
    r"(?:final|correct|right|best)\s+(?:answer|choice|option)\s*(?:is)?\W{0,8}([A-J])\b",
    r"\banswer\s*(?:is|would be|:|=)\W{0,8}(?:option|choice)?\W{0,4}([A-J])\b",
    r"\b(?:option|choice)\W{0,3}([A-J])\b\W{0,3}(?:is)?\s*(?:correct|right|the answer)",
    r"^\W{0,4}\(?([A-J])\)?\W{0,4}$",
)
LETTERS_ALONE = re.compile(r"^\W{0,4}([A-J])[).:]", re.MULTILINE)


def last_boxed(text: str) -> str | None:
    """The inside of the last box that is closed."""
    for start in reversed([found.end() for found in BOXED.finditer(text)]):
        depth = 1
        for index in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[index], 0)
            if depth == 0:
                return text[start:index]
    return None


def integer_answer(text: str) -> int | None:
    """Of the last box; leading zeros and dollar signs are no difference, anything else is."""
    inside = last_boxed(text)
    if inside is None:
        return None
    bare = DRESS.sub("", inside)
    return int(bare) if INTEGER.fullmatch(bare) else None


def choice_answer(text: str, count: int) -> int | None:
    """The index of the choice that the text ends on."""
    letter = boxed_letter(text) or named_letter(text)
    index = ord(letter) - ord("A") if letter else count
    return index if index < count else None


def boxed_letter(text: str) -> str | None:
    inside = last_boxed(text)
    if inside is None:
        return None
    bare = DRESS.sub("", inside)
    if LETTER.fullmatch(bare):
        return bare
    # "C) 10 m", "\text{C: …}": the letter stands before the choice's own words.
    first = LETTERS_ALONE.match(inside.replace("\\text", "").lstrip("{( "))
    return first[1] if first else None


def named_letter(text: str) -> str | None:
    for pattern in NAMED:
        found = re.findall(pattern, text, re.MULTILINE | re.IGNORECASE)
        # Without regard to case "a" would be a letter; the letter itself is a capital.
        capitals = [letter for letter in found if letter.isupper()]
        if capitals:
            return capitals[-1]
    return None
