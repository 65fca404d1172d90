"""Flags of `train-adapter`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from trainer.flags import byte_count, fraction, names, positive

# Flags that override a value of the config file.
RECIPE_FLAGS = (
    "mode", "rank", "alpha", "dropout", "target_modules", "layers", "learning_rate", "weight_decay",
    "epochs", "batch_size", "grad_accum", "max_length", "dtype", "reg", "beta",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from trainer.data.generated import STYLES
    from trainer.fit.prefix_cache import CACHE_LOCATIONS
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
    add("--target-modules", "--modules", type=names,
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
    add("--prefix-cache", choices=CACHE_LOCATIONS, default="memory",
        help="keep the output of the layers below the adapter across epochs")  # fmt: skip
    add("--prefix-cache-size", type=byte_count, default=4 << 30, help="at most, such as 4GiB")
    add("--gradient-checkpointing", action=argparse.BooleanOptionalAction)
    add("--choose", choices=("balanced", "paper", "terse"), help="what the epoch is chosen by")
    add("--n", type=positive, default=1000, help="prompts in each held-out set of the last exam")
    add("--exam-seed", type=int, default=1, help="of the last exam")
    add("--validation-n", type=positive, default=100, help="prompts in each set, every epoch")
    add("--checkpoints", type=Path, default=Path("runs/checkpoints"), help="one folder an epoch")
    add("--description", help="one sentence for the card and the manifest")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    from trainer.fit.primitive_cache import keep_few_primitives
    from trainer.train_adapter import train_adapter
    from trainer.train_adapter.options import TrainOptions

    keep_few_primitives()
    default_choice = "terse" if arguments.style == "terse" else "balanced"
    train_adapter.run(
        TrainOptions(
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
