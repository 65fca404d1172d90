"""`reproduce`: the grid trained, measured, claimed and drawn; a stopped run goes on.

npm run reproduce                                  # docs/reproduction
npm run reproduce -- --quick                       # docs/reproduction/quick
npm run reproduce -- --only fig2,fig5 --seeds 1 --output runs/two-figures
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.flags import fraction, names, positive
from trainer.publish.provenance import commit
from trainer.reproduce.findings.results import gathered
from trainer.reproduce.jobs import grid
from trainer.reproduce.jobs.job import Settings
from trainer.reproduce.jobs.plan import all_jobs, open_jobs
from trainer.reproduce.jobs.points import FILE, read_points
from trainer.reproduce.jobs.runner import process_pool, work_through
from trainer.reproduce.numbers.choice import TOLERANCE
from trainer.shared.cpu import cpu_name
from trainer.shared.failure import Failure
from trainer.shared.io import read_json, write_json
from trainer.shared.repository import logical_name
from trainer.shared.versions import versions
from trainer.weights.base_digest import base_digest
from trainer.weights.orthomerge import default_k


@dataclass(frozen=True)
class ReproduceOptions:
    output: Path
    model: Path
    work: Path  # weights for the sampling jobs; may be deleted
    workers: int
    figures: tuple[str, ...] | None
    seeds: int
    tolerance: float
    quick: bool
    fresh: bool
    report_only: bool
    command: str


@dataclass(frozen=True)
class Session:
    """One call of the command."""

    command: str
    date: str
    machine: str
    workers: int
    jobs: int  # done in it
    seconds: float
    commit: str | None  # of the trainer's sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output", type=Path, help="report folder (docs/reproduction, with --quick …/quick)")
    add("--model", type=Path, default=Path("models/tiny-reasoner"), help="base checkpoint folder")
    add("--workers", type=positive, default=2, help="processes, each with one thread")
    add("--only", type=names, metavar="FIGURES",
        help=f"among {','.join(grid.FIGURES)}")  # fmt: skip
    add("--seeds", type=positive, help="default 3, with --quick 2")
    add(
        "--tolerance",
        type=fraction,
        default=TOLERANCE,
        metavar="NATS",
        help="how far from the best validation loss a rate may be (0: the best itself)",
    )
    add("--quick", action="store_true", help="fewer figures, rates, seeds, epochs and prompts")
    add("--fresh", action="store_true", help="take no points of an earlier run")
    add(
        "--report-only",
        action="store_true",
        help="train nothing, write the report of what is there",
    )
    add("--work", type=Path, default=Path("runs/reproduce"), help="weights of evaluated epochs")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    home = Path("docs/reproduction")
    reproduce(
        ReproduceOptions(
            output=arguments.output or (home / "quick" if arguments.quick else home),
            model=arguments.model,
            work=arguments.work,
            workers=arguments.workers,
            figures=arguments.only or (grid.QUICK if arguments.quick else None),
            seeds=arguments.seeds or (2 if arguments.quick else 3),
            tolerance=arguments.tolerance,
            quick=arguments.quick,
            fresh=arguments.fresh,
            report_only=arguments.report_only,
            command=f"npm run reproduce -- {shlex.join(argv[1:])}".strip(" -"),
        )
    )


def settings_of(options: ReproduceOptions) -> Settings:
    hidden = read_json(options.model / "config.json")["hidden_size"]
    settings = Settings(
        base_digest(options.model),
        seeds=tuple(range(1, options.seeds + 1)),
        merges=grid.merge_variants(default_k(hidden)),
        tolerance=options.tolerance,
    )
    if not options.quick:
        return settings
    return replace(
        settings,
        rates=2,
        refusals=160,
        lora_epochs=6,
        full_epochs=3,
        evaluated=(2, 3, 6),
        exam=tuple((name, n // 2) for name, n in settings.exam),
        samples=4,
        sample_prompts=30,
        merges=(),
    )


def reproduce(options: ReproduceOptions) -> None:
    from trainer.reproduce.report.page import write_report

    figures = grid.chosen_figures(options.figures)
    configurations = grid.chosen_configurations(figures)
    settings = settings_of(options)
    points = {} if options.fresh else read_points(options.output)
    known = len(points)
    started = time.monotonic()
    if not options.report_only and open_jobs(configurations, settings, points):
        from trainer.reproduce.jobs.worker import WorkerContext

        name = logical_name(options.model)
        with process_pool(
            options.workers, WorkerContext(options.model, name, options.work)
        ) as pool:
            points = work_through(
                configurations, settings, points, options.output, pool, workers=options.workers
            )
        session = Session(
            command=options.command,
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            machine=machine(),
            workers=options.workers,
            jobs=len(points) - known,
            seconds=round(time.monotonic() - started, 1),
            commit=commit(),
        )
        add_session(options.output, session, fresh=options.fresh)
    if not any(job.kind == "base" and job.key in points for job in all_jobs(
        configurations, settings, points
    )):  # fmt: skip
        raise Failure(
            f"--report-only needs the points of an earlier run with the same settings; got "
            f"{str(options.output / FILE)!r}, which has none of them; leave the flag out"
        )
    results = gathered(configurations, settings, points)
    path = write_report(
        options.output,
        results,
        figures,
        settings,
        sessions=sessions_of(options.output),
        facts={
            "model": logical_name(options.model),
            "versions": versions() if len(points) > known else versions_of(options.output),
        },
        is_quick=options.quick,
    )
    print(f"saved {path}", file=sys.stderr)


def machine() -> str:
    """Processor, cores that may be used, system."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores of {cpu_name()}, {platform.system()}"


def sessions_of(folder: Path) -> list[dict[str, Any]]:
    path = folder / "sessions.json"
    try:
        return read_json(path) if path.is_file() else []
    except json.JSONDecodeError as error:
        raise Failure(
            f"{path} must be JSON; got {error.msg} in line {error.lineno}; delete it and run again"
        ) from error


def versions_of(folder: Path) -> dict[str, str]:
    """Of the packages that measured the points: a report alone keeps those of the last run."""
    path = folder / "results.json"
    return read_json(path)["versions"] if path.is_file() else versions()


def add_session(folder: Path, session: Session, *, fresh: bool) -> None:
    before = [] if fresh else sessions_of(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "sessions.json", [*before, asdict(session)])
