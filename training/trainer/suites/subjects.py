"""Who is examined: the server's base and its adapters, each at a strength, as the server attests.

A name is what `?adapter=` takes: `none`, `safety-r1`, `safety-r1:0.5`. What counts is what the
server says it applied: the header `x-adapter` of an answer names each adapter's digest and scale.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from trainer.answer.served import Server
from trainer.shared.failure import Failure

BASE = "none"
BASE_HEADER = "none"
PROBES = ("What is the capital of France?", "List three prime numbers.", "How do I boil an egg?")
PROBE_TOKENS = 12
DECIMALS = 3


@dataclass(frozen=True)
class Subject:
    name: str  # as asked for
    applied: str  # "none", or "id@digest;scale=s" as the server attests

    @property
    def is_base(self) -> bool:
        return self.name == BASE


def find_subjects(server: Server, model: str, names: tuple[str, ...] | None) -> list[Subject]:
    """One short request each: it loads the adapter and tells what is applied."""
    listed = server.adapters()
    wanted = names or (BASE, *listed)
    for name in wanted:
        if name != BASE and name.split(":")[0] not in listed:
            raise Failure(
                f"--adapters must name adapters of the server; got {name!r}; it has "
                f"{', '.join(listed) or 'none'}"
            )
    if len(set(wanted)) != len(wanted):
        raise Failure(f"--adapters must name each subject once; got {','.join(wanted)}")
    return [Subject(name, probe(server, model, name, 1)[0]) for name in wanted]


def base_fingerprint(server: Server, model: str) -> str:
    """What the base computes for fixed prompts, as a hash: the server's API has no digest of the
    base. Other weights or another quantisation give another one."""
    seen = [probe(server, model, BASE, PROBE_TOKENS, prompt)[1] for prompt in PROBES]
    return hashlib.sha256(json.dumps([model, seen]).encode()).hexdigest()


def probe(
    server: Server, model: str, adapter: str, tokens: int, prompt: str = PROBES[0]
) -> tuple[str, list[object]]:
    """What was applied, and the tokens with their log-probabilities."""
    raw = server.call(
        "/v1/chat/completions",
        lambda: server.client.chat.completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": prompt}],
            temperature=0,
            max_tokens=tokens,
            logprobs=True,
            extra_query={"adapter": adapter},
        ),
    )
    applied = raw.headers.get("x-adapter", BASE_HEADER)
    logprobs = raw.parse().choices[0].logprobs
    found = logprobs.content or [] if logprobs else []
    return applied, [[entry.token, round(entry.logprob, DECIMALS)] for entry in found]
