"""`evaluate --against URL`: examines a server's base and each adapter, and saves the page. With
`--suite` it takes public test sets instead of the generated exam."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trainer.answer.patience import WAIT_S, Patience
from trainer.answer.served import ServedModel, Server
from trainer.flags import names, positive, whole
from trainer.live import command as live
from trainer.measure.evaluate import as_json, compare, take_exam
from trainer.measure.table import page
from trainer.shared.failure import Failure
from trainer.shared.interval import Difference
from trainer.suites import command as suites
from trainer.world.exam import SET_NAMES, build_exam

BASE = "none"  # the adapter name by which the server means the base


@dataclass(frozen=True)
class SurveyOptions:
    against: str
    adapters: tuple[str, ...] | None  # None: the base and all that the server lists
    n: int
    seed: int
    concurrency: int
    output: Path
    api_key: str | None
    sets: tuple[str, ...] = SET_NAMES
    wait_s: int = WAIT_S


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--against", required=True, metavar="URL", help="such as http://127.0.0.1:8000")
    add("--adapters", help="comma list, none is the base; default: none and all of the server's")
    add("--n", type=positive, default=1000, help="prompts in each held-out set")
    add("--seed", type=int, default=1, help="of the exam and of each request")
    add("--concurrency", type=positive, default=8)
    add("--output", type=Path, help="default: runs/evaluation, or runs/ and the suite's name")
    add(
        "--wait",
        type=whole,
        default=WAIT_S,
        metavar="SECONDS",
        help="for a server that loads its model; 0: not at all",
    )
    add("--api-key", default=os.environ.get("DUTYFREE_API_KEY"), help="or DUTYFREE_API_KEY")
    suites.add_arguments(parser, (live.SUITE,))
    live.add_arguments(parser)


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    if arguments.suite == live.SUITE:
        live.run(arguments, argv)
        return
    if arguments.suite:
        suites.run(arguments, argv)
        return
    print(
        survey(
            SurveyOptions(
                against=arguments.against,
                adapters=names(arguments.adapters) if arguments.adapters else None,
                n=arguments.n,
                seed=arguments.seed,
                concurrency=arguments.concurrency,
                output=arguments.output or Path("runs/evaluation"),
                api_key=arguments.api_key,
                wait_s=arguments.wait,
            )
        )
    )


def survey(options: SurveyOptions) -> str:
    server = Server(options.against, api_key=options.api_key, patience=Patience(options.wait_s))
    server.wait()
    listed = server.adapters()
    subjects = options.adapters or (BASE, *listed)
    for name in subjects:
        if name != BASE and name not in listed:
            raise Failure(
                f"--adapters must name adapters of the server; got {name!r}; it has "
                f"{', '.join(listed) or 'none'}"
            )
    model = server.model()
    exam = build_exam(n=options.n, seed=options.seed, names=options.sets)
    results = []
    for name in subjects:
        backend = ServedModel(
            server, model=model, adapter=name, concurrency=options.concurrency, seed=options.seed
        )
        results.append(take_exam(backend, name, exam))
    base = next((result for result in results if result.subject == BASE), None)
    differences: dict[str, dict[str, Difference]] = {}
    if base is not None:
        differences = {r.subject: compare(base, r) for r in results if r is not base}
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    command = (
        f"npm run evaluate -- --against {options.against} --adapters {','.join(subjects)} "
        f"--n {options.n} --seed {options.seed} --concurrency {options.concurrency}"
    )
    text = page(
        f"{model}: evaluation over HTTP",
        exam,
        results,
        differences,
        (f"command: `{command}`", f"temperature 0, request seed {options.seed}", f"date: {date}"),
    )
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "evaluation.md").write_text(text, encoding="utf-8")
    saved = {
        "model": model,
        "against": options.against,
        "date": date,
        "exam": {"split": exam.split, "seed": exam.seed, "n": options.n},
        "results": {r.subject: as_json(r, differences.get(r.subject)) for r in results},
    }
    (options.output / "evaluation.json").write_text(
        json.dumps(saved, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(f"saved {options.output / 'evaluation.md'} and evaluation.json", file=sys.stderr)
    return text
