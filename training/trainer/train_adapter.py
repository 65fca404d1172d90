"""`train-adapter`: from a base and data to a judged, published adapter folder (or tuned model).

python -m trainer train-adapter --output adapters/safety-r1 --retain 0.5
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from trainer import data, judging
from trainer.adapter import (
    continued,
    model_folder,
    prepared,
    recipe_of,
    trained_parameters,
)
from trainer.backend import Backend
from trainer.batches import Encoded, Pair, encode_pairs
from trainer.card import adapter_card
from trainer.checkpoint import load_weights
from trainer.evaluate import Result, as_json, compare, take_exam
from trainer.exam import SET_NAMES, Exam, build_exam
from trainer.exam_backend import exam_backend
from trainer.failure import Failure
from trainer.fit import Epoch, Hardware, fit
from trainer.hub_data import read_data
from trainer.lora_folder import adapter_digest, read_lora
from trainer.provenance import provenance
from trainer.publish import check_output, logical_name, publish, publish_model
from trainer.reasoner import load_model
from trainer.recipe import Recipe, default_config, layer_span, read_config
from trainer.strength import StrengthChoice, choose_strength

ROOT = Path(__file__).resolve().parents[2]
SHAPE = ("mode", "rank", "alpha", "dropout", "target_modules", "layers")  # an adapter has its own
HELD_BACK = 10  # with --data, every tenth example is kept for validation


@dataclass(frozen=True)
class TrainOptions:
    output: Path
    model: str | None  # None: the config's, else the embedded one
    config: Path | None
    adapter: Path | None  # to be trained on
    overrides: dict[str, Any]
    style: data.Style
    data: str | None
    examples: int
    retain: float
    choose: str
    seed: int
    n: int
    exam_seed: int
    validation_n: int
    checkpoints: Path
    resume: bool
    device: str  # auto, cpu, cuda
    prefix_cache: str
    cache_bytes: int
    gradient_checkpointing: bool | None
    description: str | None
    command: str


def is_main() -> bool:
    """Under `accelerate launch` only the first process speaks and publishes."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    if is_main():
        print(text, file=sys.stderr, flush=True)


def training_pairs(
    options: TrainOptions, source: str | None, base: Backend
) -> tuple[list[Pair], str]:
    """The pairs and, in words, what they are."""
    if source is not None:
        pairs, what = read_data(source), f"data {Path(source).name}"
    elif options.style == "terse":
        pairs = data.generated_terse(options.examples, options.seed)
        what = f"{options.examples} generated terse answers"
    else:
        pairs = data.generated_refusals(options.examples, options.seed)
        what = f"{options.examples} generated refusals"
    count = round(options.retain * len(pairs))
    if count:
        tasks = data.retained_tasks(count, options.seed)
        pairs += data.answered(tasks, base.answer(tasks, "the base's own answers"))
        what += f" and {count} of the base's own answers (--retain {options.retain:g})"
    return pairs, what


def check_lengths(rows: Sequence[Encoded], limit: int) -> None:
    for index, row in enumerate(rows, start=1):
        if len(row) > limit:
            raise Failure(
                f"an example must fit the limit of {limit} tokens; example {index} has "
                f"{len(row)}; shorten or drop it, or raise --max-length up to the model's context"
            )


def check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise Failure(
            "--device cuda needs an NVIDIA GPU that this PyTorch can use; found none; use --device "
            "cpu, or install PyTorch's CUDA build and the driver"
        )


def check_shape_flags(overrides: dict[str, Any]) -> None:
    given = [name for name in SHAPE if overrides.get(name) is not None]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise Failure(
            f"--adapter brings its own shape; got {flags} beside it; leave these flags out"
        )


def run(options: TrainOptions) -> None:
    started = time.monotonic()
    check_device(options.device)
    check_output(options.output)
    # The file alone may name the model, and the model's size the file.
    given = read_config(options.config, options.overrides) if options.config else None
    model_name = options.model or (given and given.model) or "models/tiny-reasoner"
    dtype = options.overrides.get("dtype") or (given.recipe.dtype if given else "auto")
    model, tokenizer = load_model(model_name, dtype)
    config = given or read_config(
        default_config(sum(p.numel() for p in model.parameters())), options.overrides
    )
    recipe, source = config.recipe, options.data or config.data
    source_adapter = read_lora(options.adapter) if options.adapter else None
    if source_adapter:
        check_shape_flags(options.overrides)
        recipe = recipe_of(source_adapter, recipe, model.config.num_hidden_layers)
    layer_span(recipe.layers, model.config.num_hidden_layers)
    base = exam_backend(model, tokenizer)
    base_name = logical_name(Path(model_name), ROOT) if Path(model_name).is_dir() else model_name
    say(f"base {base_name}; {recipe}")
    pairs, what = training_pairs(options, source, base)
    rows = encode_pairs(tokenizer, pairs)
    context = model.config.max_position_embeddings
    check_lengths(rows, min(context, recipe.max_length or context))
    held_back: list[Encoded] = []
    if source is not None and len(rows) >= 2 * HELD_BACK:
        random.Random(f"{options.seed}/held-back").shuffle(rows)
        held_back, rows = rows[::HELD_BACK], [r for i, r in enumerate(rows) if i % HELD_BACK]
    say(f"data: {what}; {len(rows)} training examples, {len(held_back)} held back")
    origin = provenance(
        base=model_folder(model),
        data=what,
        data_sha256=data.digest(pairs),
        config=recipe.as_json(),
        seed=options.seed,
    ) | {"base_model": base_name}

    # The base is examined before PEFT wraps it; generated data only, the exam speaks its dialect.
    exam = None
    if source is None:
        exam = build_exam(n=options.n, seed=options.exam_seed, names=SET_NAMES)
    before = take_exam(base, "base", exam) if exam else None
    judge_exam = judging.validation_exam(options.validation_n)

    if source_adapter:
        trained = continued(model, source_adapter, base_name, options.seed)
        origin |= {"continued_from": adapter_digest(options.adapter)}
    else:
        trained = prepared(model, recipe, base_name, options.seed)
    judged: list[judging.Judged] = []

    def judge(epoch: Epoch) -> None:
        if source is None:
            entry = judging.judge_by_exam(epoch, trained, tokenizer, judge_exam, options.choose)
        else:
            entry = judging.judge_by_loss(epoch, trained, held_back, tokenizer.pad_token_id)
        judged.append(entry)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in entry.measures.items())
        say(f"epoch {epoch.number}: loss {epoch.loss:.4f}  {shown}")

    epochs = fit(
        trained,
        rows,
        recipe,
        pad_id=tokenizer.pad_token_id,
        seed=options.seed,
        folder=options.checkpoints / options.output.name,
        resume=options.resume,
        fingerprint={
            "data": origin["data_sha256"],
            "base": origin["base_digest"],
            "continued_from": origin.get("continued_from"),
        },
        hardware=Hardware(
            cpu=options.device == "cpu",
            prefix_cache=options.prefix_cache,
            cache_bytes=options.cache_bytes,
            gradient_checkpointing=config.gradient_checkpointing
            if options.gradient_checkpointing is None
            else options.gradient_checkpointing,
        ),
        after_epoch=judge,
    )
    # Epochs that a resumed run took over are judged from their files.
    for epoch in epochs[: len(epochs) - len(judged)]:
        load_weights(epoch.checkpoint, trained_parameters(trained))
        judge(epoch)
    chosen = judging.best(judged)
    load_weights(chosen.epoch.checkpoint, trained_parameters(trained))
    if not is_main():
        return
    choice = None
    results = [before] if before else []
    differences = {}
    if exam and before:
        after = take_exam(exam_backend(trained, tokenizer), options.output.name, exam)
        results.append(after)
        differences = {options.output.name: compare(before, after)}
        if recipe.mode == "lora" and options.style == "refusal":
            choice = choose_strength(trained, tokenizer, judge_exam)
    minutes = (time.monotonic() - started) / 60
    ship(
        options, recipe, origin, sorted(judged, key=lambda j: j.epoch.number), chosen, exam,
        results, differences, choice, minutes, tokenizer,
    )  # fmt: skip
    say(f"saved {options.output} (epoch {chosen.epoch.number}); {minutes:.1f} minutes")


def ship(
    options: TrainOptions,
    recipe: Recipe,
    origin: dict[str, Any],
    judged: Sequence[judging.Judged],
    chosen: judging.Judged,
    exam: Exam | None,
    results: Sequence[Result],
    differences: dict[str, dict[str, Any]],
    choice: StrengthChoice | None,
    minutes: float,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    description = options.description or f"Trained on {origin['data']}."
    manifest: dict[str, Any] = {
        "recommended_strength": choice.strength if choice else 1.0,
        "description": description,
        **origin,
        "epoch": chosen.epoch.number,
        "chosen_by": judging.how_chosen(chosen, options.choose if exam else None),
        "minutes": round(minutes, 1),
        "validation": [
            {"epoch": j.epoch.number, "loss": j.epoch.loss, **j.measures} for j in judged
        ],
        "strength": choice.as_json() if choice else None,
        "exam": {"split": exam.split, "seed": exam.seed, "n": options.n} if exam else None,
        "results": {
            result.subject: as_json(result, differences.get(result.subject)) for result in results
        },
    }
    card = adapter_card(
        options.output.name,
        description,
        exam,
        results,
        differences,
        manifest,
        judging.epochs_table(judged, chosen),
        options.command,
        choice,
    )
    if recipe.mode == "lora":
        publish(chosen.epoch.checkpoint, options.output, manifest, card)
    else:
        publish_model(chosen.epoch.checkpoint, options.output, manifest, card, tokenizer)
    for name, found in differences.items():
        for measure, difference in found.items():
            numbers = ", ".join(f"{k} {v:+.4f}" for k, v in asdict(difference).items())
            say(f"  {name}: {measure} {numbers}")
    for result in results:
        for measure, share in result.shares.items():
            bounds = f"[{share.low:.3f}, {share.high:.3f}]"
            say(f"  {result.subject}: {measure} {share.value:.3f} {bounds}")
