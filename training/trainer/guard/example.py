"""What a guard is shown: a conversation, the parts of it that are judged, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Part = Literal["prompt", "reasoning", "output"]
PARTS: tuple[Part, ...] = get_args(Part)
OPENED = "<think>\n"


@dataclass(frozen=True)
class Example:
    """The labels are None where nobody has judged that part."""

    messages: tuple[tuple[str, str], ...]  # (role, content), up to the reply
    prompt_unsafe: bool | None = None
    thought: str | None = None
    thought_unsafe: bool | None = None
    response: str | None = None
    response_unsafe: bool | None = None
    category: str = ""
    source: str = ""  # which file or generator it is of; losses are balanced over these

    def reply(self, rendered_prompt: str) -> str:
        """The assistant's text as the model writes it after `rendered_prompt`."""
        if self.thought is None and self.response is None:
            return ""
        is_opened = rendered_prompt.endswith(OPENED)
        if self.thought is None:
            return ("</think>\n\n" if is_opened else "") + (self.response or "")
        thought = ("" if is_opened else OPENED) + self.thought
        return thought if self.response is None else f"{thought}\n</think>\n\n{self.response}"


@dataclass(frozen=True)
class Mark:
    """A place where a verdict is asked for: behind the first `cut` tokens."""

    part: Part
    cut: int
    read: int  # tokens of the part before it
    unsafe: bool


@dataclass(frozen=True)
class Marked:
    """An example as token ids with its marks."""

    example: Example
    ids: list[int]
    marks: tuple[Mark, ...]

    def __len__(self) -> int:
        return len(self.ids)
