"""`recipes`: which training mix makes a safety adapter that refuses harm and little else.

npm run recipes -- --data-dir DIR --model FOLDER --work runs/recipes --jobs paper,looks
npm run recipes -- --data-dir DIR --model FOLDER --measure base,looks:0.75
npm run recipes -- --data-dir DIR --model FOLDER --ship looks=adapters/mine --strength 0.75
npm run recipes -- --data-dir DIR --model FOLDER --draw docs/real/frontier
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.flags import names

STRENGTHS = (0.5, 0.75, 1.25, 1.5)  # besides the trained one, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from trainer.recipes.mixes import JOBS

    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="folder of the public sets, as JSONL")
    add("--model", type=Path, required=True, help="the base, a checkpoint folder")
    add("--work", type=Path, default=Path("runs/recipes"), help="own answers and checkpoints")
    add("--rows", type=Path, default=Path("runs/recipes/jobs.jsonl"), help="screening rows")
    add("--jobs", type=names, default=(), help=f"train and screen, among {','.join(JOBS)}")
    add(
        "--fast",
        action="store_true",
        help="train with products rounded to bfloat16, where the CPU has AMX; screening is exact",
    )
    add("--frontier", type=names, default=(), metavar="JOBS",
        help=f"screen trained jobs at strengths {', '.join(map(str, STRENGTHS))}")  # fmt: skip
    add("--measure", type=names, default=(), metavar="JOB[:STRENGTH],…",
        help="on unseen prompts and under attacks; `base` too")  # fmt: skip
    add("--measured", type=Path, default=Path("runs/recipes/measured.jsonl"), help="those rows")
    add("--most", type=int, default=200, help="unseen prompts of a set")
    add("--ship", metavar="JOB=FOLDER", help="the job's adapter as a folder with a card")
    add("--strength", type=float, default=1.0, help="that the shipped adapter recommends")
    add("--base-digest", help="of the file that is served, where it is not the --model folder")
    add("--description", default="A rank-1 safety adapter.", help="one sentence for the card")
    add("--draw", type=Path, help="the frontier of all screening rows, as PNG and SVG")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    from trainer.fit.primitive_cache import keep_few_primitives

    keep_few_primitives()
    from trainer.recipes.measure import rows_in
    from trainer.recipes.report import draw_frontier

    train(arguments)
    measure_subjects(arguments)
    if arguments.ship:
        ship_job(arguments, argv)
    if arguments.draw:
        draw_frontier(rows_in(arguments.rows), arguments.draw)


def job_named(name: str) -> Any:
    from trainer.recipes.mixes import JOBS
    from trainer.shared.failure import Failure

    if name not in JOBS:
        raise Failure(f"a job must be among {', '.join(JOBS)}; got {name}; see mixes.py")
    return JOBS[name]


def train(arguments: argparse.Namespace) -> None:
    import torch

    from trainer.recipes.run_job import Place, run_job, screen_strengths

    if arguments.fast and arguments.jobs:
        torch.set_float32_matmul_precision("medium")
    place = Place(arguments.data_dir, arguments.model, arguments.work)
    arguments.rows.parent.mkdir(parents=True, exist_ok=True)

    def keep(row: dict[str, Any]) -> None:
        with arguments.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        shown = (row["job"], row["epoch"], row["strength"], row["refused"])
        print(*shown, file=sys.stderr, flush=True)

    for job in [job_named(name) for name in arguments.jobs]:
        run_job(job, place, keep)
    torch.set_float32_matmul_precision("highest")
    for name in arguments.frontier:
        row = last_row(arguments, name)
        for found in screen_strengths(row, checkpoint_of(arguments, name), STRENGTHS, place):
            keep(found)


def last_row(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Of the last epoch of a screened job, as it was trained."""
    from trainer.recipes.measure import rows_in
    from trainer.shared.failure import Failure

    rows = [r for r in rows_in(arguments.rows) if r["job"] == name and r["strength"] == 1]
    if not rows:
        raise Failure(f"{name} must have been screened; got no row in {arguments.rows}; run --jobs")
    return max(rows, key=lambda row: row["epoch"])


def checkpoint_of(arguments: argparse.Namespace, name: str) -> Path:
    row = last_row(arguments, name)
    return arguments.work / "checkpoints" / f"{name}-{row['key']}" / f"epoch-{row['epoch']:02d}"


def measure_subjects(arguments: argparse.Namespace) -> None:
    from trainer.recipes.measure import Subject, measure, questions
    from trainer.recipes.run_job import SCREENED

    subjects = []
    for text in arguments.measure:
        name, _, strength = text.partition(":")
        folder = None if name == "base" else checkpoint_of(arguments, name)
        subjects.append(Subject(name, folder, float(strength or 1)))
    if subjects:
        asked = questions(arguments.data_dir, SCREENED, arguments.most)
        list(measure(subjects, asked, arguments.model, arguments.measured))


def ship_job(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    from trainer.recipes.measure import rows_in
    from trainer.recipes.run_job import BASE_NAME
    from trainer.recipes.ship import Shipment, ship
    from trainer.weights.base_digest import base_digest

    name, _, folder = arguments.ship.partition("=")
    screened = [row for row in rows_in(arguments.rows) if row["job"] == name]
    fast = " --fast" if any(row.get("products") == "medium" for row in screened) else ""
    command = f"npm run recipes -- --data-dir DIR --model FOLDER{fast} --jobs {shlex.quote(name)}"
    measured = [
        row
        for row in rows_in(arguments.measured)
        if row["subject"] == "base"
        or (row["subject"] == name and row["strength"] == arguments.strength)
    ]
    ship(
        Shipment(
            folder=Path(folder),
            checkpoint=checkpoint_of(arguments, name),
            job=job_named(name),
            strength=arguments.strength,
            base_name=BASE_NAME,
            base_digest=arguments.base_digest or base_digest(arguments.model),
            description=arguments.description,
            command=command,
            screened=screened,
            measured=measured,
        )
    )
