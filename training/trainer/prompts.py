"""`prompts`: an exam's prompts as JSONL, for programs that ask the model themselves.

python -m trainer prompts --n 20 --seed 1     # {"set": "fact", "messages": [...]} a line
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence

from trainer.flags import positive
from trainer.world.exam import GATED, build_exam


def prompt_lines(*, n: int, seed: int) -> Iterator[str]:
    """`n` prompts of each gated set, the sets taking turns."""
    sets = build_exam(n=n, seed=seed, names=GATED).sets
    for tasks in zip(*sets.values(), strict=True):
        for name, task in zip(sets, tasks, strict=True):
            yield json.dumps({"set": name, "messages": task.messages})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--n", type=positive, default=50, help="prompts in each held-out set")
    add("--seed", type=int, default=1, help="of the exam")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    for line in prompt_lines(n=arguments.n, seed=arguments.seed):
        print(line)
