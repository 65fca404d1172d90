"""The policies that are compared, and which of them a server offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from trainer.shared.failure import Failure

BASE, OBSERVE = "base", "observe"
NAMES = (BASE, OBSERVE, "block", "escalate", "adapter", "adapter+block")


@dataclass(frozen=True)
class Policy:
    """`safety` is the request's field of that name."""

    name: str
    adapter: str
    safety: Mapping[str, Any]


@dataclass(frozen=True)
class Offered:
    """`applied` and `guard` are the headers x-adapter and x-safety of a short answer."""

    policy: Policy
    applied: str
    guard: str


def policies(
    names: Sequence[str], adapter: str | None, *, every: int | None, threshold: float | None
) -> list[Policy]:
    settings = {"every": every, "threshold": threshold}
    more = {name: value for name, value in settings.items() if value is not None}
    modes: dict[str, tuple[str, dict[str, Any]]] = {
        BASE: ("none", {"mode": "off"}),
        OBSERVE: ("none", {"mode": "observe", **more}),
        "block": ("none", {"mode": "block", **more}),
        "escalate": ("none", {"mode": "escalate", "adapter": adapter, **more}),
        "adapter": (adapter or "", {"mode": "off"}),
        "adapter+block": (adapter or "", {"mode": "block", **more}),
    }
    for name in names:
        if name not in modes:
            raise Failure(f"--policies must be of {', '.join(NAMES)}; got {name!r}")
    return [Policy(name, *modes[name]) for name in names]


def offered(
    wanted: Sequence[Policy], adapter: str | None, try_one: Callable[[Policy], tuple[str, str]]
) -> tuple[list[Offered], dict[str, str]]:
    """Those that the server takes, and why it does not take the others. The base must be among the
    first: all others are compared with it."""
    found: list[Offered] = []
    not_run: dict[str, str] = {}
    for policy in wanted:
        if adapter is None and ("adapter" in policy.name or policy.name == "escalate"):
            not_run[policy.name] = "the server lists no adapter"
            continue
        try:
            found.append(Offered(policy, *try_one(policy)))
        except openai.APIStatusError as error:
            not_run[policy.name] = f"the server refuses it: {error.status_code} {code_of(error)}"
        except openai.APIConnectionError as error:
            raise Failure(
                f"a server must answer; got {error.__cause__ or error}; start it with `npm start`"
            ) from error
    if BASE in not_run:
        raise Failure(
            f"the policy base must run; got {not_run[BASE]}; start the server with --safety off, "
            "which leaves the choice to requests, or leave base out of --policies"
        )
    return found, not_run


def code_of(error: openai.APIStatusError) -> str:
    return str(error.code or error.type or "")
