"""Flags of `orthomerge`, `merge-adapter` and `analyze`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MODES = ("col", "both")
DTYPES = ("float32", "bfloat16", "float16")
DEVICES = ("cpu", "cuda")


def add_orthomerge(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--adapter", type=Path, required=True, help="PEFT adapter folder")
    add("--model", type=Path, required=True, help="the adapter's base, a checkpoint folder")
    add("--output", type=Path, required=True, help="the new adapter's folder")
    add("--mode", choices=MODES, required=True, help="column space, or column and row space")
    add("--k", type=int, help="singular directions to leave; default 64 of 5120 of the width")
    add("--lambda", dest="strength", type=float, default=1.0, help="factor on the update")
    add("--device", choices=DEVICES, default="cpu")


def add_merge_adapter(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--adapter", type=Path, required=True, help="PEFT adapter folder")
    add("--model", type=Path, required=True, help="the adapter's base, a checkpoint folder")
    add("--output", type=Path, required=True, help="the merged checkpoint's folder")
    add("--strength", type=float, default=1.0, help="factor on the update")
    add("--dtype", choices=DTYPES, help="default: as in the base")


class AppendSubject(argparse.Action):
    """Keeps --adapter and --tuned in the order in which they stand."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None
    ) -> None:
        kind = option.removeprefix("--")
        namespace.subjects = [*(namespace.subjects or []), (kind, values)]


def add_analyze(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    subject = {"type": Path, "action": AppendSubject, "dest": "subjects", "default": None}
    add("--model", type=Path, required=True, help="the base, a checkpoint folder")
    add("--adapter", **subject, help="a PEFT adapter folder; may be repeated")
    add("--tuned", **subject, help="the base after full fine-tuning; may be repeated")
    add("--output", type=Path, required=True, help="folder of tables and figures")
    add("--k", type=int, default=16, help="singular vectors of the overlap (the paper's 16)")
    add("--device", choices=DEVICES, default="cpu")


def run_orthomerge(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    from trainer.structure import orthomerge_adapter

    orthomerge_adapter.run(
        orthomerge_adapter.OrthoOptions(**values(arguments), command=command(argv))
    )


def run_merge_adapter(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    from trainer.structure import merge_adapter

    merge_adapter.run(merge_adapter.MergeOptions(**values(arguments)))


def run_analyze(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    from trainer.structure import analyze

    given = values(arguments)
    given["subjects"] = tuple(given["subjects"] or ())
    analyze.run(analyze.AnalyzeOptions(**given, command=command(argv)))


def values(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(arguments).items() if name != "command"}


def command(argv: Sequence[str]) -> str:
    return f"npm run {argv[0]} -- {shlex.join(argv[1:])}"
