"""`evaluate --suite live`: its flags and its run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from trainer.answer.served import Server
from trainer.flags import fraction, names, positive
from trainer.live.asking import Asker, Limits
from trainer.live.case import Case, World
from trainer.live.dialect import Dialect
from trainer.live.measuring import COLUMNS, account, measure
from trainer.live.policy import NAMES, OBSERVE, Offered, offered, policies
from trainer.live.public import ATTACKED, Public
from trainer.live.search import AIMS, Climb, climb
from trainer.live.summary import EXPLANATION, draw, summary
from trainer.shared.failure import Failure
from trainer.suites.answers import LineFile
from trainer.suites.command import MAX_RETRIES, run_about
from trainer.suites.datasets import read_set, require_folder
from trainer.suites.items import fixed_sample
from trainer.suites.results import save
from trainer.suites.subjects import Subject, base_fingerprint
from trainer.suites.suite import Findings

SUITE = "live"
ATTACKS = ("wording", "language", "prefill", "drip_turns", "drip_begun")
ROUNDS, PROMPTS = 12, 40
WORLD_TOKENS, PUBLIC_TOKENS = 160, 128
NOTICE = "Local only: answers to harmful prompts among them. Never commit or publish this file."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("live safety (--suite live)")
    add = group.add_argument
    add("--policies", type=names, default=NAMES, help=f"comma list of {', '.join(NAMES)}")
    add("--attacks", type=names, default=ATTACKS, help="comma list; default: all")
    add("--search", type=int, default=ROUNDS, metavar="N", help="tries a prompt against the score")
    add("--every", type=positive, help="tokens between two verdicts; default: the server's")
    add("--threshold", type=fraction, help="P(unsafe) that flags; default: the guard's")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    for name in arguments.attacks:
        if name not in ATTACKS:
            raise Failure(f"--attacks must be of {', '.join(ATTACKS)}; got {name!r}")
    output = arguments.output or Path("runs") / SUITE
    server = Server(
        arguments.against,
        api_key=arguments.api_key,
        timeout_s=arguments.timeout,
        max_retries=MAX_RETRIES,
    )
    world = world_of(arguments)
    model = server.model()
    fingerprint = base_fingerprint(server, model)
    tokens = arguments.max_tokens or (WORLD_TOKENS if not arguments.data_dir else PUBLIC_TOKENS)
    lines = LineFile(output / "replies.jsonl", NOTICE)
    try:
        limits = Limits(tokens, arguments.seed)
        asker = Asker(server, model, fingerprint, lines, limits, arguments.concurrency)
        adapter = adapter_of(arguments, server)
        wanted = policies(
            arguments.policies, adapter, every=arguments.every, threshold=arguments.threshold
        )
        offers, not_run = offered(wanted, adapter, asker.headers)
        findings, picture = found(arguments, world, asker, offers, not_run, output)
    finally:
        lines.close()
    subjects = [Subject(o.policy.name, f"{o.applied}, safety {o.guard}") for o in offers]
    about = run_about(arguments, argv, model, fingerprint, subjects)
    print(save(output, about, findings, picture))


def world_of(arguments: argparse.Namespace) -> World:
    if arguments.data_dir is None:
        return Dialect(arguments.limit or PROMPTS, arguments.seed, arguments.attacks)
    data = require_folder(arguments.data_dir)
    return Public(
        read=lambda name: read_set(name, data, any_data=arguments.any_data),
        sample=lambda rows, name: fixed_sample(rows, arguments.limit or PROMPTS, salt=name),
        attacks=arguments.attacks,
    )


def adapter_of(arguments: argparse.Namespace, server: Server) -> str | None:
    """`--adapters` names it, with its strength; else the first that the server lists."""
    listed = server.adapters()
    if arguments.adapters is None:
        return listed[0] if listed else None
    if arguments.adapters.partition(":")[0] not in listed:
        raise Failure(
            f"--adapters must name one adapter of the server here; got {arguments.adapters!r}; it "
            f"has {', '.join(listed) or 'none'}"
        )
    return str(arguments.adapters)


def found(
    arguments: argparse.Namespace,
    world: World,
    asker: Asker,
    offers: Sequence[Offered],
    not_run: dict[str, str],
    output: Path,
) -> tuple[Findings, str]:
    cases = world.cases()
    plain_unsafe = [c for c in cases if c.kind == "unsafe" and c.set not in ATTACKS]
    climbs, warnings = climbed(arguments, world, asker, offers, plain_unsafe)
    cases = [*cases, *(case for one in climbs for case in one.cases)]
    seen, errors = asker.ask_all(offers, cases, "policies in turn")
    warnings += sorted({f"the server failed at items: {error}" for error in errors})
    chosen = [offer.policy.name for offer in offers]
    measured = measure(world, chosen, cases, seen)
    plain = list(dict.fromkeys(case.set for case in plain_unsafe))
    accounts = [account(name, measured, plain) for name in chosen]
    for one in measured:
        changed = sum(one.flags.get("changed", ()))
        if one.subject == OBSERVE and changed:
            warnings.append(f"observe changed {changed} of {len(one.ids)} answers of {one.set}")
    findings = Findings(
        measured=measured,
        data=world.data,
        settings={
            "max_tokens": asker.limits.max_tokens,
            "temperature": 0,
            "seed": asker.limits.seed,
            "at once": asker.concurrency,
            "world": world.name,
            **{offer.policy.name: dict(offer.policy.safety) for offer in offers},
        },
        judge={"rule": {"by": world.judge}},
        columns=COLUMNS,
        explanation=EXPLANATION,
        warnings=warnings,
        summary=summary(accounts, not_run, climbs),
        totals={
            "policies": {one.policy: asdict(one) for one in accounts},
            "not_run": not_run,
            "search": [
                {name: value for name, value in asdict(one).items() if name != "cases"}
                for one in climbs
            ],
        },
        base="base",
    )
    return findings, draw(output, accounts, measured)


def climbed(
    arguments: argparse.Namespace,
    world: World,
    asker: Asker,
    offers: Sequence[Offered],
    cases: Sequence[Case],
) -> tuple[list[Climb], list[str]]:
    observe = next((offer for offer in offers if offer.policy.name == OBSERVE), None)
    if observe is None or arguments.search < 1:
        return [], ["no search against the score: it needs the policy observe and --search above 0"]
    first_set = [case for case in cases if case.set in (ATTACKED, cases[0].set)]
    tried = [climb(aim, world, asker, observe, first_set, arguments.search) for aim in AIMS]
    missing = [aim for aim, one in zip(AIMS, tried, strict=True) if one is None]
    warnings = [f"no search against the {aim}: the server tells no such score" for aim in missing]
    return [one for one in tried if one is not None], warnings
