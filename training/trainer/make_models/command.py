"""Flags of `make-models`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trainer.flags import fraction, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output", type=Path, default=Path("models/tiny-reasoner"), help="checkpoint folder")
    add("--work", type=Path, default=Path("runs/make-models"), help="state of interrupted runs")
    add("--seed", type=int, default=7)
    add("--n", type=positive, default=1000, help="prompts in each held-out set")
    add("--scale", type=fraction, default=1.0, help="share of the examples (less: a rehearsal)")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    from trainer.make_models.make_models import MakeOptions, make_models

    make_models(
        MakeOptions(
            output=arguments.output,
            work=arguments.work,
            seed=arguments.seed,
            n=arguments.n,
            scale=arguments.scale,
        )
    )
