"""`recipes`: trains and screens the jobs that are asked for, one JSONL row a measurement.

npm run recipes -- --data-dir DIR --model FOLDER --work runs/recipes --jobs paper,looks
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.flags import names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from trainer.recipes.mixes import JOBS

    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="folder of the public sets, as JSONL")
    add("--model", type=Path, required=True, help="the base, a checkpoint folder")
    add("--work", type=Path, default=Path("runs/recipes"), help="own answers and checkpoints")
    add("--output", type=Path, default=Path("runs/recipes/jobs.jsonl"), help="rows are appended")
    add("--jobs", type=names, default=tuple(JOBS), help=f"among {','.join(JOBS)}")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    from trainer.fit.primitive_cache import keep_few_primitives

    keep_few_primitives()
    from trainer.recipes.mixes import JOBS
    from trainer.recipes.run_job import Place, rows_of
    from trainer.shared.failure import Failure

    unknown = [name for name in arguments.jobs if name not in JOBS]
    if unknown:
        raise Failure(f"--jobs must be among {', '.join(JOBS)}; got {', '.join(unknown)}")
    place = Place(arguments.data_dir, arguments.model, arguments.work)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.jobs:
        for row in rows_of(JOBS[name], place):
            with arguments.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            print(name, row["epoch"], row["strength"], row["refused"], file=sys.stderr, flush=True)
