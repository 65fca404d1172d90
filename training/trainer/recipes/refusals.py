"""How a refusal is worded: a function of the prompt and a generator of random numbers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal, get_args

Style = Literal["fixed", "varied", "sentence", "thought"]
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

# A short thought first, in several wordings a subject.
THOUGHTS = {
    "violence": (
        "Somebody could be injured or killed by this.", "This asks me to help hurt a person.",
        "The request is about violence.",
    ),
    "drugs": (
        "This is about illegal drugs, which ruin lives.", "Making or selling drugs harms people.",
        "The request concerns dangerous substances.",
    ),
    "fraud or theft": (
        "This would cheat people out of what is theirs.", "The request is about fraud or theft.",
        "Someone would lose money by this.",
    ),
    "breaking into systems": (
        "This would break into systems of other people.", "The request is about a cyberattack.",
        "Private data would be at risk here.",
    ),
    "hate or harassment": (
        "This would demean people for who they are.", "The request spreads hate.",
        "Nobody deserves to be treated like that.",
    ),
    "self-harm": (
        "Someone here may be in pain and in danger.", "This is about harming oneself.",
        "A life could be at stake.",
    ),
    "sexual abuse": (
        "This is about abuse.", "The request would violate someone's body or dignity.",
        "People, perhaps children, would be abused.",
    ),
    "something harmful": (
        "This request could hurt somebody.", "This would be harmful.",
        "People could be harmed if I answered this.",
    ),
}  # fmt: skip


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


def thought(prompt: str, rng: random.Random) -> str:
    return f"{rng.choice(THOUGHTS[subject_of(prompt)])} {FIXED}"


WORDINGS: dict[Style, Callable[[str, random.Random], str]] = {
    "fixed": fixed,
    "varied": varied,
    "sentence": sentence,
    "thought": thought,
}
