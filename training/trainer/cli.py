"""The commands' flags. Heavy imports wait until a command runs, so that --help is quick."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.shared.failure import Failure
from trainer.shared.gguf_folder import checkpoint_folder


@dataclass(frozen=True)
class Command:
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Sequence[str]], None]


def commands() -> dict[str, Command]:
    from trainer import prompts, survey
    from trainer.guard import command as guard
    from trainer.make_models import command as make_models
    from trainer.recipes import command as recipes
    from trainer.redteam import command as redteam
    from trainer.reproduce import command as reproduce
    from trainer.structure import command as structure
    from trainer.train_adapter import command as train_adapter

    return {
        "make-models": Command(
            "train models/tiny-reasoner", make_models.add_arguments, make_models.run
        ),
        "train-adapter": Command(
            "train a LoRA adapter", train_adapter.add_arguments, train_adapter.run
        ),
        "train-guard": Command(
            "train a guard: verdicts in one token", guard.add_arguments, guard.run
        ),
        "evaluate": Command("examine a running server", survey.add_arguments, survey.run),
        "prompts": Command("print held-out prompts as JSONL", prompts.add_arguments, prompts.run),
        "redteam": Command(
            "attack an adapter in every known way", redteam.add_arguments, redteam.run
        ),
        "orthomerge": Command(
            "an adapter with less overlap", structure.add_orthomerge, structure.run_orthomerge
        ),
        "merge-adapter": Command(
            "base and adapter as one folder",
            structure.add_merge_adapter,
            structure.run_merge_adapter,
        ),
        "analyze": Command(
            "stable rank and overlap of updates", structure.add_analyze, structure.run_analyze
        ),
        "recipes": Command(
            "compare training mixes for a real model", recipes.add_arguments, recipes.run
        ),
        "reproduce": Command("measure the paper's figures", reproduce.add_arguments, reproduce.run),
    }


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trainer", description=__doc__)
    parsers = parser.add_subparsers(dest="command", required=True)
    for name, command in commands().items():
        command.add_arguments(parsers.add_parser(name, help=command.help))
    return parser


def main(argv: Sequence[str]) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        # Training knows only later in which type.
        if isinstance(getattr(arguments, "model", None), Path):
            arguments.model = Path(checkpoint_folder(arguments.model))
        commands()[arguments.command].run(arguments, argv)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
