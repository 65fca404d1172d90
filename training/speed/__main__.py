"""python -m speed [--shape qwen2.5-0.5b] [--device cuda] …: the training benchmark.

Writes speed/results/MACHINE/latest.{json,md} and appends to speed/results/history.csv.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from speed import report, rounds
from speed.machine import machine, machine_slug
from speed.results import append_history, write_latest
from speed.shapes import SHAPES
from speed.worker import Job
from speed.workloads import WORKLOADS, lengths_of
from trainer.publish.provenance import CHANGED, commit
from trainer.shared.device import check_device
from trainer.shared.failure import Failure
from trainer.shared.recipe import CONFIGS, DTYPES, check, layer_span, read_config

HERE = Path(__file__).resolve().parent
DEFAULT_ROWS = {"equal": 12, "spread": 20}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="train-bench", description="fit beside PEFT with the Hugging Face Trainer"
    )
    found.add_argument("--shape", choices=SHAPES, default="qwen2.5-0.5b")
    found.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    found.add_argument("--dtype", choices=[d for d in DTYPES if d != "auto"], default="bfloat16")
    found.add_argument("--workload", choices=WORKLOADS, help="default: both")
    found.add_argument("--rows", type=int, help=f"default: {DEFAULT_ROWS}")
    found.add_argument("--epochs", type=int, default=3)
    found.add_argument("--batch-size", type=int, default=2)
    found.add_argument("--layers", default="middle")
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--seed", type=int, default=1)
    found.add_argument("--prefix-cache", choices=("memory", "off"), default="memory")
    found.add_argument("--gradient-checkpointing", action="store_true")
    found.add_argument("--output", type=Path, default=HERE / "results")
    return found


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    try:
        run(options, arguments)
    except Failure as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(options: argparse.Namespace, arguments: list[str]) -> None:
    check_device(options.device)
    if options.rounds < 1 or (options.rows or 1) < 1:
        raise Failure(
            f"--rounds and --rows must be at least 1; got {options.rounds}, {options.rows}"
        )
    names = [options.workload] if options.workload else list(WORKLOADS)
    jobs = {name: job_of(name, options) for name in names}
    started = datetime.now(UTC)
    result = about(options, arguments, started) | {
        "recipe": jobs[names[0]].recipe.as_json(),
        "lengths": {
            name: [sum(pair) for pair in lengths_of(name, job.rows, job.seed)]
            for name, job in jobs.items()
        },
        "checks": [asdict(rounds.check_same(job)) for job in jobs.values()],
    }
    whole: dict[str, Any] = {}

    def write(runs: list[dict[str, Any]]) -> None:
        whole.update(result | {"runs": runs})
        write_latest(whole, options.output)

    rounds.run_rounds(jobs, options.rounds, write)
    append_history(whole, options.output)
    print(report.page(whole))


def job_of(workload: str, options: argparse.Namespace) -> Job:
    given = {"layers": options.layers, "epochs": options.epochs, "batch_size": options.batch_size}
    recipe = read_config(CONFIGS / "method.json", given).recipe
    check(recipe)
    layer_span(recipe.layers, SHAPES[options.shape].num_hidden_layers)
    return Job(
        kind="ours",
        workload=workload,
        shape=options.shape,
        device=options.device,
        dtype=options.dtype,
        rows=options.rows or DEFAULT_ROWS[workload],
        seed=options.seed,
        threads=options.threads,
        recipe=recipe,
        prefix_cache=options.prefix_cache,
        gradient_checkpointing=options.gradient_checkpointing,
    )


def about(options: argparse.Namespace, arguments: list[str], started: datetime) -> dict[str, Any]:
    packages = ("torch", "transformers", "peft", "accelerate")
    head = commit()
    return {
        "command": " ".join(["npm run train-bench --", *arguments]),
        "commit": (head or "unknown").removesuffix(CHANGED)[:12],
        "dirty": head.endswith(CHANGED) if head else None,
        "date": f"{started:%Y-%m-%dT%H:%MZ}",
        "machine": machine(options.device),
        "slug": machine_slug(options.device),
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
        "shape": options.shape,
        "dtype": options.dtype,
        "device": options.device,
        "threads": options.threads,
        "gradient_checkpointing": options.gradient_checkpointing,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
