"""The commands' flags. Heavy imports wait until a command runs, so that --help is quick."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.structure import command as structure_commands
from trainer.shared.failure import Failure


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0; got {text!r}")
    return int(text)


def fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 100; got {text!r}")
    return value


def byte_count(text: str) -> int:
    """ "4GiB" -> 4294967296."""
    number = text.lower().removesuffix("gib")
    try:
        return int(float(number) * (1 << 30 if number != text.lower() else 1))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"must be a number of bytes, or of GiB such as 4GiB; got {text!r}"
        ) from error


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trainer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add_make_models(commands.add_parser("make-models", help="train models/tiny-reasoner"))
    add_train_adapter(commands.add_parser("train-adapter", help="train a LoRA adapter"))
    add_evaluate(commands.add_parser("evaluate", help="examine a running server"))
    add_prompts(commands.add_parser("prompts", help="print held-out prompts as JSONL"))
    add_redteam(commands.add_parser("redteam", help="attack an adapter in every known way"))
    structure_commands.add_parsers(commands)
    add_reproduce(commands.add_parser("reproduce", help="measure the paper's figures"))
    return parser


def add_make_models(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output", type=Path, default=Path("models/tiny-reasoner"), help="checkpoint folder")
    add("--work", type=Path, default=Path("runs/make-models"), help="state of interrupted runs")
    add("--seed", type=int, default=7)
    add("--n", type=positive, default=1000, help="prompts in each held-out set")
    add("--scale", type=fraction, default=1.0, help="share of the examples (less: a rehearsal)")


# Flags that override a value of the config file.
RECIPE_FLAGS = (
    "mode", "rank", "alpha", "dropout", "target_modules", "layers", "learning_rate", "weight_decay",
    "epochs", "batch_size", "grad_accum", "max_length", "dtype", "reg", "beta",
)  # fmt: skip


def add_train_adapter(parser: argparse.ArgumentParser) -> None:
    from trainer.data.generated import STYLES
    from trainer.fit.prefix_cache import PLACES
    from trainer.shared.recipe import DTYPES, MODES, MODULES, REGS

    add = parser.add_argument
    add("--output", type=Path, required=True, help="adapter folder, such as runs/mine")
    add("--model", help="base checkpoint folder or hub id (default: the config's, or the embedded)")
    add("--data", help="JSONL of {prompt, completion} or {messages}, or a hub's data set; "
        "default: the config's, or generated")  # fmt: skip
    add("--adapter", type=Path, help="a PEFT adapter to train on, instead of a new one")
    add("--style", choices=STYLES, default="refusal", help="which generated set")
    add("--examples", type=positive, default=400, help="generated examples, retained ones apart")
    add("--retain", type=fraction, default=0.0, metavar="FRACTION",
        help="the base's own answers mixed in, per example (default 0: refusals only)")  # fmt: skip
    add("--config", type=Path, help="recipe; default training/configs/{tiny,method}.json by size")
    recipe = parser.add_argument_group("recipe", "each overrides a value of the config")
    add = recipe.add_argument
    add("--mode", choices=MODES, help="lora, or full: every weight, the paper's baseline")
    add("--rank", type=positive)
    add("--alpha", type=float)
    add("--dropout", type=float)
    add("--target-modules", "--modules", type=lambda text: tuple(text.split(",")),
        help=f"among {','.join(MODULES)}")  # fmt: skip
    add("--layers", metavar="RANGE", help="all, early, middle, late, or FIRST-LAST such as 17-32")
    add("--lr", "--learning-rate", type=float, dest="learning_rate")
    add("--weight-decay", type=float)
    add("--epochs", type=positive)
    add("--batch-size", type=positive, help="rows of one process in one pass, at most")
    add("--grad-accum", type=positive, help="a step takes this many times --batch-size rows")
    add("--max-length", type=positive, help="tokens of an example (default: the model's context)")
    add("--dtype", choices=DTYPES, help="of the weights; auto: as stored")
    add("--reg", choices=REGS, help="penalty on the overlap with the base weights")
    add("--beta", type=float, help="of the penalty")
    add = parser.add_argument
    add("--seed", type=int, default=1)
    add("--resume", action="store_true", help="go on from the last whole checkpoint")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--prefix-cache", choices=PLACES, default="memory",
        help="keep the output of the layers below the adapter across epochs")  # fmt: skip
    add("--prefix-cache-size", type=byte_count, default=4 << 30, help="at most, such as 4GiB")
    add("--gradient-checkpointing", action=argparse.BooleanOptionalAction)
    add("--choose", choices=("balanced", "paper", "terse"), help="what the epoch is chosen by")
    add("--n", type=positive, default=1000, help="prompts in each held-out set of the last exam")
    add("--exam-seed", type=int, default=1, help="of the last exam")
    add("--validation-n", type=positive, default=100, help="prompts in each set, every epoch")
    add("--checkpoints", type=Path, default=Path("runs/checkpoints"), help="one folder an epoch")
    add("--description", help="one sentence for the card and the manifest")


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--against", required=True, metavar="URL", help="such as http://127.0.0.1:8000")
    add("--adapters", help="comma list, none is the base; default: none and all of the server's")
    add("--n", type=positive, default=1000, help="prompts in each held-out set")
    add("--seed", type=int, default=1, help="of the exam and of each request")
    add("--concurrency", type=positive, default=8)
    add("--output", type=Path, default=Path("runs/evaluation"))
    add("--api-key", default=os.environ.get("DUTYFREE_API_KEY"), help="or DUTYFREE_API_KEY")


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    from trainer.reproduce.command import add_arguments

    add_arguments(parser)


def add_prompts(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--n", type=positive, default=50, help="prompts in each held-out set")
    add("--seed", type=int, default=1, help="of the exam")


def add_redteam(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--adapter", type=Path, default=Path("adapters/safety-r1"), help="PEFT folder")
    add("--model", type=Path, default=Path("models/tiny-reasoner"), help="its base")
    add("--n", type=positive, default=200, help="prompts in each held-out set")
    add("--seed", type=int, default=21, help="of the exam, the samples, the random directions")
    add("--groups", type=lambda text: tuple(text.split(",")),
        help="of strength,temperature,thought,paraphrase,direction; default all")  # fmt: skip
    add("--output", type=Path, help="default docs/redteam/NAME, with --quick runs/redteam/NAME")
    add("--quick", action="store_true", help="20 prompts in each set, whatever --n says")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    match arguments.command:
        case "make-models":
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
        case "train-adapter":
            run_train_adapter(arguments, argv)
        case "evaluate":
            from trainer.survey import SurveyOptions, survey

            adapters = tuple(arguments.adapters.split(",")) if arguments.adapters else None
            options = SurveyOptions(
                against=arguments.against,
                adapters=adapters,
                n=arguments.n,
                seed=arguments.seed,
                concurrency=arguments.concurrency,
                output=arguments.output,
                api_key=arguments.api_key,
            )
            print(survey(options))
        case "redteam":
            run_redteam(arguments, argv)
        case "prompts":
            from trainer.world.prompts import prompt_lines

            for line in prompt_lines(n=arguments.n, seed=arguments.seed):
                print(line)
        case "orthomerge" | "merge-adapter" | "analyze":
            structure_commands.run(arguments, argv)
        case "reproduce":
            from trainer.reproduce import command

            command.run(arguments, f"npm run reproduce -- {shlex.join(argv[1:])}".strip(" -"))


def run_redteam(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
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


def run_train_adapter(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    from trainer.train_adapter import train_adapter
    from trainer.fit.primitive_cache import keep_few_primitives

    keep_few_primitives()
    default_choice = "terse" if arguments.style == "terse" else "balanced"
    train_adapter.run(
        train_adapter.TrainOptions(
            output=arguments.output,
            model=arguments.model,
            config=arguments.config,
            adapter=arguments.adapter,
            overrides={name: getattr(arguments, name) for name in RECIPE_FLAGS},
            style=arguments.style,
            data=arguments.data,
            examples=arguments.examples,
            retain=arguments.retain,
            choose=arguments.choose or default_choice,
            seed=arguments.seed,
            n=arguments.n,
            exam_seed=arguments.exam_seed,
            validation_n=arguments.validation_n,
            checkpoints=arguments.checkpoints,
            resume=arguments.resume,
            device=arguments.device,
            prefix_cache=arguments.prefix_cache,
            cache_bytes=arguments.prefix_cache_size,
            gradient_checkpointing=arguments.gradient_checkpointing,
            description=arguments.description,
            command=f"npm run train-adapter -- {shlex.join(argv[1:])}",
        )
    )


def main(argv: Sequence[str]) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        run(arguments, argv)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
