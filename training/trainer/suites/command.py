"""`evaluate --suite …`: its flags, what every suite needs, and which suites there are."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from trainer.answer.patience import Patience
from trainer.answer.served import Server
from trainer.flags import fraction, names, positive
from trainer.publish.provenance import commit
from trainer.shared.failure import Failure
from trainer.suites import code, paper, safety, utility
from trainer.suites.answers import AnswerBook
from trainer.suites.asking import Examiner
from trainer.suites.datasets import require_folder
from trainer.suites.model_judge import KINDS, ModelJudge
from trainer.suites.plot import draw_refusals
from trainer.suites.results import Run, save
from trainer.suites.subjects import Subject, base_fingerprint, find_subjects
from trainer.suites.suite import Context, Findings
from trainer.weights.base_digest import base_digest

SETS = {
    "safety": tuple(part.name for part in safety.PARTS),
    "utility": tuple(one.name for one in utility.SETS),
    "code": tuple(one.name for one in code.SETS),
    "paper": paper.SETS,
}
SUITES = tuple(SETS)
ONLY_OF = {"samples": ("code", "paper"), "temperature": ("code", "paper"), "gpqa": ("paper",)}
MAX_RETRIES = 4  # of a request that is turned away or fails; then it is an error of its item


def add_arguments(parser: argparse.ArgumentParser, more_suites: Sequence[str] = ()) -> None:
    """`more_suites` have rooms of their own, and share these flags."""
    group = parser.add_argument_group("public test sets (--suite)")
    add = group.add_argument
    data = os.environ.get("DUTYFREE_DATA")
    add("--suite", choices=(*SUITES, *more_suites), help="instead of the generated exam")
    add(
        "--data-dir",
        type=Path,
        default=Path(data) if data else None,
        help="folder of the test sets; or DUTYFREE_DATA",
    )
    add("--fetch", action="store_true", help="get missing sets, where they can be converted")
    add(
        "--fetch-from",
        metavar="URL",
        default=os.environ.get("DUTYFREE_DATA_SOURCE"),
        help="serves <owner>/<repository>/<commit>/<path> raw; or DUTYFREE_DATA_SOURCE",
    )
    add("--any-data", action="store_true", help="take a set whose bytes are not the published ones")
    add("--limit", type=positive, help="items of each set: a fixed sample")
    add("--max-tokens", type=positive, help="of an answer; default: the suite's")
    add("--timeout", type=positive, default=600, metavar="SECONDS", help="of one request")
    add("--base", type=Path, help="the checkpoint folder that the server runs, for its digest")
    add("--sets", type=names, help="comma list of the suite's sets; default: all")
    add("--samples", type=positive, help="answers to an item; code: 1, paper: 8")
    add("--temperature", type=fraction, help="code and paper; default: 0 for one sample, else 0.6")
    add("--gpqa", type=Path, help="paper: a file of GPQA's questions")
    add(
        "--judge",
        default="rule",
        help="rule, guard (that of --against), or the address of a judge model's server",
    )
    add("--judge-kind", choices=KINDS, default="llama-guard")
    add("--judge-model", help="default: the first that the judge's server lists")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    check(arguments)
    data = require_folder(arguments.data_dir, create=arguments.fetch)
    output = arguments.output or Path("runs") / arguments.suite
    server = Server(
        arguments.against,
        api_key=arguments.api_key,
        timeout_s=arguments.timeout,
        max_retries=MAX_RETRIES,
        patience=Patience(arguments.wait),
    )
    server.wait()
    model = server.model()
    subjects = find_subjects(
        server, model, names(arguments.adapters) if arguments.adapters else None
    )
    fingerprint = base_fingerprint(server, model)
    book = AnswerBook(output)
    judge = judge_of(arguments, output)
    try:
        context = Context(
            examiner=Examiner(server, model, fingerprint, book, arguments.concurrency),
            subjects=subjects,
            data=data,
            output=output,
            limit=arguments.limit,
            any_data=arguments.any_data,
            flags=arguments,
        )
        findings, picture = measured_and_drawn(context, judge)
    finally:
        book.close()
        if judge:
            judge.lines.close()
    about = run_about(arguments, argv, model, fingerprint, subjects)
    print(save(output, about, findings, picture))
    print(f"saved {output / 'README.md'} and results.json", file=sys.stderr)


def run_about(
    arguments: argparse.Namespace,
    argv: Sequence[str],
    model: str,
    fingerprint: str,
    subjects: Sequence[Subject],
) -> Run:
    return Run(
        suite=arguments.suite,
        command=f"npm run evaluate -- {shown(argv[1:])}",
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=commit(),
        model=model,
        base_fingerprint=fingerprint,
        base_digest=base_digest(arguments.base) if arguments.base else None,
        subjects=subjects,
    )


def measured_and_drawn(context: Context, judge: ModelJudge | None) -> tuple[Findings, str | None]:
    """The one place that knows each suite; a suite's picture is None where it draws none."""
    suites: dict[str, Callable[[], tuple[Findings, str | None]]] = {
        "safety": lambda: safety_with_picture(context, judge),
        "utility": lambda: (utility.run(context), None),
        "code": lambda: (code.run(context), None),
        "paper": lambda: (paper.run(context), None),
    }
    return suites[context.flags.suite]()


def safety_with_picture(context: Context, judge: ModelJudge | None) -> tuple[Findings, str | None]:
    findings = safety.run(context, judge)
    picture = draw_refusals(context.output, findings.measured, safety.TO_REFUSE, safety.TO_ANSWER)
    return findings, picture


def check(arguments: argparse.Namespace) -> None:
    known = SETS[arguments.suite]
    for name in arguments.sets or ():
        if name not in known:
            raise Failure(f"--sets must name sets of the suite; got {name!r}; take {known}")
    for flag, suites in ONLY_OF.items():
        if getattr(arguments, flag) is not None and arguments.suite not in suites:
            raise Failure(
                f"--{flag} is of the suites {' and '.join(suites)}; got it with "
                f"{arguments.suite}; leave it out"
            )
    if arguments.judge != "rule" and arguments.suite in ("utility", "code"):
        raise Failure(
            f"--judge is of the suites safety and paper; got it with {arguments.suite}, whose "
            "answers are checked without one; leave it out"
        )
    if arguments.judge not in ("rule", "guard") and not arguments.judge.startswith(
        ("http://", "https://")
    ):
        raise Failure(
            f"--judge must be rule, guard or a server's address; got {arguments.judge!r}; take "
            "rule, or http://127.0.0.1:9000"
        )


def judge_of(arguments: argparse.Namespace, output: Path) -> ModelJudge | None:
    if arguments.judge == "rule" or arguments.suite != "safety":
        return None
    is_own = arguments.judge == "guard"
    server = Server(
        arguments.against if is_own else arguments.judge,
        api_key=arguments.api_key if is_own else os.environ.get("DUTYFREE_JUDGE_KEY"),
        timeout_s=arguments.timeout,
        max_retries=MAX_RETRIES,
        patience=Patience(arguments.wait),
    )
    server.wait()
    kind = "guard" if is_own else arguments.judge_kind
    model = arguments.judge_model or (server.guard() if kind == "guard" else server.model())
    return ModelJudge(server, model, kind, output, arguments.concurrency)


def shown(argv: Sequence[str]) -> str:
    """The command as it may be repeated elsewhere: no key, and folders by their last name."""
    words: list[str] = []
    for word in argv:
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        is_key = flag == "--api-key" or (words and words[-1] == "--api-key")
        kept = "KEY" if is_key else Path(value).name if Path(value).is_absolute() else value
        words.append(f"{flag}{equals}{kept}" if equals or not flag else word)
    return shlex.join(words)
