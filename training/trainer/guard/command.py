"""`train-guard`: a guard that judges conversations in one token of the resident model.

npm run train-guard -- --output adapters/guard-r16
npm run train-guard -- --output adapters/mine --model FOLDER --data mine.jsonl --test other.jsonl
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from trainer.flags import fraction, names, positive

EMBEDDED = Path("models/tiny-reasoner")
CARRIERS = ("base", "safety-r1@0.5", "safety-r1@1", "safety-r1@1.5", "safety-r1@1+terse-r1@1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output", type=Path, required=True, help="the guard's folder")
    add("--model", type=Path, default=EMBEDDED, help="the base: a folder or a GGUF file")
    add("--data", type=Path, help="JSONL of judged conversations; without it, generated ones")
    add("--validation", type=Path, help="JSONL to calibrate on; without it, a fifth of --data")
    add("--test", type=Path, help="JSONL of other sources, held out; without it, the validation")
    add("--texts", type=positive, default=6000, help="of the generated training data")
    add("--n", type=positive, default=400, help="prompts in each generated held-out set")
    add("--adapters", type=Path, default=Path("adapters"), help="where the carriers' adapters lie")
    add("--carriers", type=names, default=CARRIERS, metavar="LIST",
        help="base, or adapters: base,safety-r1@0.5,safety-r1@1+terse-r1@1")  # fmt: skip
    add("--token", help="special token that the guard stands on; without it, the last free one")
    add("--labels", type=names, help="two texts of one token each, safe first")
    add("--rank", type=positive, default=16)
    add("--alpha", type=positive, default=32)
    add("--modules", type=names, default=None, help="which linear modules it is on")
    add("--learning-rate", type=fraction, default=2e-3)
    add("--weight-decay", type=fraction, default=0.01)
    add("--dropout", type=fraction, default=0.0)
    add("--epochs", type=positive, default=4)
    add("--batch-size", type=positive, default=64, help="texts")
    add("--longest", type=positive, default=512, help="tokens of a text that are read")
    add("--dtype", choices=("float32", "bfloat16"), default="float32",
        help="of the carrier's pass while training")  # fmt: skip
    add("--seed", type=int, default=1)
    add("--description", default="Judges a conversation in one token of its own keys and values.")


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> None:
    import torch

    from trainer.guard.carrier import read_carrier
    from trainer.guard.data import file_material
    from trainer.guard.guard_recipe import MODULES, GuardRecipe
    from trainer.guard.tokens import guard_tokens
    from trainer.guard.train_guard import Training, train_guard
    from trainer.guard.world_material import world_material
    from trainer.publish.publish import check_output
    from trainer.shared.io import load_model
    from trainer.shared.progress import say
    from trainer.shared.repository import logical_name

    check_output(arguments.output)
    carriers = [read_carrier(text, arguments.adapters) for text in arguments.carriers]
    model, tokenizer = load_model(arguments.model, "float32")
    model.requires_grad_(False)
    tokens = guard_tokens(tokenizer, token=arguments.token, labels=arguments.labels)
    if arguments.data:
        material = file_material(
            tokenizer, arguments.data, arguments.validation, arguments.test,
            longest=arguments.longest, seed=arguments.seed,
        )  # fmt: skip
    else:
        material = world_material(
            tokenizer, texts=arguments.texts, n=arguments.n, longest=arguments.longest,
            seed=arguments.seed,
        )  # fmt: skip
    recipe = GuardRecipe(
        rank=arguments.rank,
        alpha=arguments.alpha,
        modules=arguments.modules or MODULES,
        learning_rate=arguments.learning_rate,
        weight_decay=arguments.weight_decay,
        dropout=arguments.dropout,
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    manifest = train_guard(
        Training(
            base=arguments.model,
            base_name=logical_name(arguments.model),
            model=model,
            tokens=tokens,
            material=material,
            carriers=carriers,
            recipe=recipe,
            dtype=getattr(torch, arguments.dtype),
            output=arguments.output,
            description=arguments.description,
            command=shlex.join(["npm", "run", argv[0], "--", *argv[1:]]),
        )
    )
    for carrier in manifest["guard"]["carriers"]:
        say(f"{carrier['name']}: AUROC {carrier['auroc']} of {carrier['n']} held-out verdicts")
    say(f"saved {arguments.output}; {manifest['minutes']} minutes")
