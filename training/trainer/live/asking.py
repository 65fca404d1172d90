"""Asks one case under one policy as a stream, and keeps what a client saw and when it saw it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import openai

from trainer.answer.served import Server
from trainer.live.case import Case, Seen
from trainer.live.policy import Offered, Policy, code_of
from trainer.shared.failure import Failure
from trainer.suites.answers import LineFile
from trainer.suites.asking import work_through

FLOOR = "policy_floor"
KEPT = ("input", "reasoning", "output", "probe", "verdicts", "failures", "escalated", "guard")


@dataclass(frozen=True)
class Limits:
    max_tokens: int
    seed: int


@dataclass(frozen=True)
class Asker:
    """A server, its base's fingerprint, and where replies are kept: `Seen` by a key of all that
    decides it, times aside."""

    server: Server
    model: str
    fingerprint: str
    lines: LineFile
    limits: Limits
    concurrency: int

    def headers(self, policy: Policy) -> tuple[str, str]:
        """x-adapter and x-safety of a short answer."""
        messages = ({"role": "user", "content": "What is the capital of France?"},)
        raw = self.server.client.chat.completions.with_raw_response.create(
            **self.body(policy, messages, max_tokens=1)
        )
        return raw.headers.get("x-adapter", "none"), raw.headers.get("x-safety", "off")

    def body(
        self, policy: Policy, messages: Sequence[Any], max_tokens: int | None = None
    ) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "max_tokens": max_tokens or self.limits.max_tokens,
            "seed": self.limits.seed,
            "extra_query": {"adapter": policy.adapter},
            "extra_body": {"safety": dict(policy.safety)},
        }

    def key(self, offer: Offered, case: Case) -> str:
        decides = [
            self.fingerprint, offer.applied, offer.guard, dict(offer.policy.safety),
            case.messages, asdict(self.limits),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(decides, ensure_ascii=False).encode()).hexdigest()

    def find(self, offer: Offered, case: Case) -> Seen | None:
        entry = self.lines.get(self.key(offer, case))
        return Seen(**entry["seen"]) if entry else None

    def ask_all(
        self, offers: Sequence[Offered], cases: Sequence[Case], title: str
    ) -> tuple[dict[tuple[str, str, str], Seen], list[str]]:
        """(policy, set, id) -> what was seen. A few cases under all policies, then the next few: a
        busy moment of the machine meets all policies alike."""
        step = self.concurrency
        pairs = [
            (offer, case)
            for at in range(0, len(cases), step)
            for offer in offers
            for case in cases[at : at + step]
        ]
        left = [i for i, (offer, case) in enumerate(pairs) if self.find(offer, case) is None]

        def one(index: int) -> None:
            offer, case = pairs[index]
            seen = self.stream(offer, case)
            about = {"policy": offer.policy.name, "set": case.set, "case": case.id}
            self.lines.put(self.key(offer, case), {**about, "seen": asdict(seen)})

        errors = work_through(one, left, title, total=len(pairs), at_once=self.concurrency)
        found = {}
        for offer, case in pairs:
            seen = self.find(offer, case)
            if seen is not None:
                found[offer.policy.name, case.set, case.id] = seen
        return found, errors

    def stream(self, offer: Offered, case: Case) -> Seen:
        begin = time.perf_counter()
        body = self.body(offer.policy, case.messages)
        try:
            raw = self.server.client.chat.completions.with_raw_response.create(
                **body, stream=True, stream_options={"include_usage": True}
            )
        except openai.PermissionDeniedError as error:
            if code_of(error) != FLOOR:
                raise
            return Seen(total_ms=1000 * (time.perf_counter() - begin))
        applied = raw.headers.get("x-adapter", "none")
        if applied != offer.applied:
            raise Failure(
                f"the server must apply {offer.applied!r} to the end; got {applied!r}: the "
                "adapter changed while it was examined; start again"
            )
        return read(raw.parse(), begin)


def read(chunks: Any, begin: float) -> Seen:
    """Of a stream of chunks; `begin` is when it was asked for, in seconds."""
    thought, text, finish, tokens, first = "", "", "", 0, None
    safety: dict[str, Any] = {}
    for chunk in chunks:
        if chunk.usage is not None:
            tokens = chunk.usage.completion_tokens
        safety |= (chunk.model_extra or {}).get("safety") or {}
        for choice in chunk.choices:
            more = choice.delta.model_extra or {}
            begun = more.get("reasoning_content") or more.get("reasoning") or ""
            said = choice.delta.content or ""
            if first is None and (begun or said):
                first = 1000 * (time.perf_counter() - begin)
            thought, text = thought + begun, text + said
            safety |= (choice.model_extra or {}).get("safety") or {}
            finish = choice.finish_reason or finish
    total = 1000 * (time.perf_counter() - begin)
    kept = {name: safety[name] for name in KEPT if name in safety}
    return Seen(thought.strip(), text.strip(), finish, tokens, first, total, kept)
