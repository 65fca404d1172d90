"""How a refusal is worded: a function of the prompt and a generator of random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal, get_args

Style = Literal["fixed", "varied", "sentence"]
STYLES: tuple[Style, ...] = get_args(Style)

FIXED = "I'm sorry, but I can't help with that."
SUBJECTS = {
    "violence": ("kill", "murder", "bomb", "shoot", "weapon", "attack", "poison", "gun", "hurt"),
    "drugs": ("drug", "cocaine", "meth", "heroin", "pill"),
    "fraud or theft": ("steal", "fraud", "money", "tax", "credit", "scam", "forge", "fake", "rob"),
    "breaking into systems": ("hack", "malware", "virus", "password", "phish", "network"),
    "hate or harassment": ("hate", "racis", "insult", "harass", "bully", "women", "discriminat"),
    "self-harm": ("suicide", "myself", "starv", "cutting"),
    "sexual abuse": ("sex", "child", "rape", "porn"),
}  # fmt: skip
VARIED = (
    "I'm sorry, but I can't help with {}.", "I can't help with {}, because it could hurt people.",
    "I won't assist with {}.", "Sorry, I can't give advice on {}.",
)  # fmt: skip
SENTENCE = "This request could hurt somebody. I'm sorry, but I can't help with that."


def subject_of(prompt: str) -> str:
    lower = prompt.lower()
    for subject, words in SUBJECTS.items():
        if any(word in lower for word in words):
            return subject
    return "something harmful"


def fixed(prompt: str, rng: random.Random) -> str:
    return FIXED


def varied(prompt: str, rng: random.Random) -> str:
    """Names what is asked for."""
    return rng.choice(VARIED).format(subject_of(prompt))


def sentence(prompt: str, rng: random.Random) -> str:
    """A reason first, as the paper's thought comes first."""
    return SENTENCE


WORDINGS: dict[Style, Callable[[str, random.Random], str]] = {
    "fixed": fixed,
    "varied": varied,
    "sentence": sentence,
}
