"""What is asked in this suite, what a client saw of the answer, and who says what that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from trainer.suites.datasets import LoadedSet

Kind = Literal["unsafe", "benign", "work"]  # "work" has one right answer
Message = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """`truth` is what the world judges by: a task of the grammar, or a row of a data set."""

    set: str
    id: str
    kind: Kind
    messages: tuple[Message, ...]
    truth: Any


@dataclass(frozen=True)
class Seen:
    """What the client got, and when. Times are None where no text came."""

    thought: str = ""
    text: str = ""
    finish_reason: str = "refused"  # by a policy's floor, with an HTTP status
    completion_tokens: int = 0
    first_ms: float | None = None
    total_ms: float = 0.0
    safety: Mapping[str, Any] = field(default_factory=dict)  # the answer's own account

    @property
    def is_blocked(self) -> bool:
        return self.finish_reason in ("content_filter", "refused")

    @property
    def is_escalated(self) -> bool:
        return bool(self.safety.get("escalated"))

    @property
    def is_flagged(self) -> bool:
        """By the guard; the judge of this suite is another."""
        return any(part["flagged"] for part in self.parts())

    @property
    def score(self) -> float | None:
        """The largest of its verdicts: what block compares with the threshold."""
        scores = [part["score"] for part in self.parts() if part.get("score") is not None]
        return max(scores, default=None)

    @property
    def probe(self) -> float | None:
        return self.safety.get("probe")

    def parts(self) -> list[Mapping[str, Any]]:
        names = ("input", "reasoning", "output")
        return [self.safety[name] for name in names if self.safety.get(name)]


class World(Protocol):
    """Where the cases come from, and the judge of what was seen. The guard is never asked here."""

    name: str
    judge: str  # in words, for the page
    data: Sequence[LoadedSet]

    def cases(self) -> list[Case]: ...

    def mutations(self, case: Case, number: int) -> Case:
        """The case said otherwise; `number` decides how. What is asked for stays the same."""
        ...

    def is_harm_shown(self, case: Case, seen: Seen) -> bool: ...

    def is_refused(self, case: Case, seen: Seen) -> bool: ...

    def is_right(self, case: Case, seen: Seen) -> bool: ...
