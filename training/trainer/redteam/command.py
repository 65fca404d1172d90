"""Flags of `redteam`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from trainer.flags import names, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--adapter", type=Path, default=Path("adapters/safety-r1"), help="PEFT folder")
    add("--model", type=Path, default=Path("models/tiny-reasoner"), help="its base")
    add("--n", type=positive, default=200, help="prompts in each held-out set")
    add("--seed", type=int, default=21, help="of the exam, the samples, the random directions")
    add("--groups", type=names,
        help="of strength,temperature,thought,paraphrase,direction; default all")  # fmt: skip
    add("--output", type=Path, help="default docs/redteam/NAME, with --quick runs/redteam/NAME")
    add("--quick", action="store_true", help="20 prompts in each set, whatever --n says")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    from trainer.redteam.run import GROUPS, QUICK_N, RedteamOptions, redteam

    home = Path("runs" if arguments.quick else "docs") / "redteam"
    options = RedteamOptions(
        adapter=arguments.adapter,
        model=arguments.model,
        n=QUICK_N if arguments.quick else arguments.n,
        seed=arguments.seed,
        output=arguments.output or home / arguments.adapter.name,
        groups=arguments.groups or GROUPS,
        command=" ".join(["npm run redteam --", shlex.join(argv[1:])]).strip(),
    )
    print(f"saved {redteam(options)}")
