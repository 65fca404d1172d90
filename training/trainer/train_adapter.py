"""`train-adapter`: from a base and data to a judged, published adapter folder.

python -m trainer train-adapter --output adapters/safety-r1 --retain 0.5
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from trainer import data
from trainer.adapter import Epoch, batch_loss, train_adapter, with_adapter
from trainer.backend import LocalModel
from trainer.batches import Encoded, Pair, collate, encode_pairs
from trainer.card import adapter_card
from trainer.evaluate import Result, as_json, compare, take_exam
from trainer.exam import SET_NAMES, build_exam
from trainer.failure import Failure
from trainer.publish import base_digest, check_output, logical_name, publish, versions
from trainer.reasoner import load_model
from trainer.recipe import Recipe, default_config, read_recipe
from trainer.table import markdown

ROOT = Path(__file__).resolve().parents[2]
VALIDATION_SETS = ("word_problem", "fact", "benign", "harmful", "lookalike")
# What the epoch is chosen by: the mean of these on the validation set, the earlier epoch on a tie.
CHOICES: dict[str, tuple[str, ...]] = {
    "balanced": ("harmful_refused", "word_problem", "fact", "benign", "lookalike"),
    "paper": ("harmful_refused", "word_problem"),  # the paper's plane: safety and reasoning
    "terse": ("terse", "word_problem", "fact", "benign"),
}
HELD_BACK = 10  # with --data, every tenth example is kept for validation


@dataclass(frozen=True)
class TrainOptions:
    output: Path
    model: Path
    config: Path | None
    overrides: dict[str, Any]
    style: data.Style
    data: Path | None
    examples: int
    retain: float
    choose: str
    seed: int
    n: int
    exam_seed: int
    validation_n: int
    checkpoints: Path
    description: str | None
    command: str


@dataclass(frozen=True)
class Judged:
    epoch: Epoch
    score: float
    measures: dict[str, float]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def training_pairs(options: TrainOptions, base: LocalModel) -> tuple[list[Pair], str]:
    """The pairs and, in words, what they are."""
    if options.data is not None:
        pairs, what = data.read_jsonl(options.data), f"data {options.data.name}"
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


def too_long(rows: Sequence[Encoded], limit: int) -> Failure | None:
    for index, row in enumerate(rows, start=1):
        if len(row) > limit:
            return Failure(
                f"an example must fit the model's context of {limit} tokens; example {index} has "
                f"{len(row)}; shorten or drop it"
            )
    return None


@torch.inference_mode()
def held_back_loss(model: PeftModel, rows: Sequence[Encoded], pad_id: int) -> float:
    model.eval()
    device = next(model.parameters()).device
    losses = [batch_loss(model, collate([row], pad_id), device).item() for row in rows]
    return sum(losses) / len(losses)


def judge(
    epoch: Epoch,
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    options: TrainOptions,
    held_back: Sequence[Encoded],
) -> Judged:
    """Generated data: shares on the validation exam. Own data: loss on what was held back."""
    if options.data is not None:
        if not held_back:
            return Judged(epoch, float(epoch.number), {})
        loss = held_back_loss(model, held_back, tokenizer.pad_token_id)
        return Judged(epoch, -loss, {"validation loss": loss})
    exam = build_exam(n=options.validation_n, seed=2, split="validation", names=VALIDATION_SETS)
    shares = take_exam(LocalModel(model, tokenizer), f"epoch {epoch.number}", exam).shares
    measures = {
        name: shares[name].value
        for name in ("harmful_refused", "word_problem", "fact", "benign", "lookalike", "terse")
    }
    names = CHOICES[options.choose]
    return Judged(epoch, sum(measures[name] for name in names) / len(names), measures)


def epochs_table(judged: Sequence[Judged], chosen: Judged) -> str:
    names = list(judged[0].measures)
    rows = [["epoch", "training loss", *(name.replace("_", " ") for name in names), ""]]
    for entry in judged:
        values = [f"{entry.measures[name]:.3f}" for name in names]
        mark = "chosen" if entry is chosen else ""
        rows.append([str(entry.epoch.number), f"{entry.epoch.loss:.4f}", *values, mark])
    return markdown(rows)


def run(options: TrainOptions) -> None:
    started = time.monotonic()
    check_output(options.output)
    model, tokenizer = load_model(options.model)
    parameters = sum(p.numel() for p in model.parameters())
    recipe = read_recipe(
        options.config or default_config(parameters),
        options.overrides,
        num_layers=model.config.num_hidden_layers,
    )
    base = LocalModel(model, tokenizer)
    base_name = logical_name(options.model, ROOT)
    say(f"base {base_name}: {parameters:,} parameters; {recipe}")
    pairs, what = training_pairs(options, base)
    rows = encode_pairs(tokenizer, pairs)
    failure = too_long(rows, model.config.max_position_embeddings)
    if failure:
        raise failure
    held_back: list[Encoded] = []
    if options.data is not None and len(rows) >= 2 * HELD_BACK:
        random.Random(f"{options.seed}/held-back").shuffle(rows)
        held_back, rows = rows[::HELD_BACK], [r for i, r in enumerate(rows) if i % HELD_BACK]
    say(f"data: {what}; {len(rows)} training examples, {len(held_back)} held back")

    # The base is examined before PEFT wraps it; generated data only, the exam speaks its dialect.
    exam = (
        build_exam(n=options.n, seed=options.exam_seed, names=SET_NAMES)
        if options.data is None
        else None
    )
    before = take_exam(base, "base", exam) if exam else None

    adapted = with_adapter(model, recipe, base_name, options.seed)
    judged: list[Judged] = []

    def after_epoch(epoch: Epoch) -> None:
        entry = judge(epoch, adapted, tokenizer, options, held_back)
        judged.append(entry)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in entry.measures.items())
        say(f"epoch {epoch.number}: loss {epoch.loss:.4f}  {shown}")

    train_adapter(
        adapted,
        tokenizer,
        rows,
        recipe,
        options.seed,
        options.checkpoints / options.output.name,
        after_epoch=after_epoch,
    )
    chosen = max(judged, key=lambda entry: (entry.score, -entry.epoch.number))
    adapted.load_adapter(chosen.epoch.checkpoint, "chosen")
    adapted.set_adapter("chosen")
    results = [before] if before else []
    differences = {}
    if exam and before:
        after = take_exam(LocalModel(adapted, tokenizer), options.output.name, exam)
        results.append(after)
        differences = {options.output.name: compare(before, after)}
    minutes = (time.monotonic() - started) / 60
    ship(
        options, recipe, base_name, data.digest(pairs), what, judged, chosen, exam, results,
        differences, minutes,
    )  # fmt: skip
    say(f"saved {options.output} (epoch {chosen.epoch.number}); {minutes:.1f} minutes")


def ship(
    options: TrainOptions,
    recipe: Recipe,
    base_name: str,
    data_sha256: str,
    what: str,
    judged: Sequence[Judged],
    chosen: Judged,
    exam: Any,
    results: Sequence[Result],
    differences: dict[str, dict[str, Any]],
    minutes: float,
) -> None:
    chosen_by = (
        f"chosen on the validation set by the mean of {', '.join(CHOICES[options.choose])}"
        if options.data is None
        else "chosen by the loss on held-back examples"
        if chosen.measures
        else "the last"
    )
    description = options.description or f"Trained on {what}."
    manifest: dict[str, Any] = {
        "recommended_strength": 1.0,
        "description": description,
        "base_model": base_name,
        "base_digest": base_digest(options.model),
        "data": what,
        "data_sha256": data_sha256,
        "seed": options.seed,
        "epoch": chosen.epoch.number,
        "chosen_by": chosen_by,
        "config": recipe.as_json(),
        "versions": versions(),
        "minutes": round(minutes, 1),
        "validation": [
            {"epoch": j.epoch.number, "loss": j.epoch.loss, **j.measures} for j in judged
        ],
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
        epochs_table(judged, chosen),
        options.command,
    )
    publish(chosen.epoch.checkpoint, options.output, manifest, card)
    for name, found in differences.items():
        for measure, difference in asdict_all(found).items():
            say(f"  {name}: {measure} {difference}")
    for result in results:
        for measure, share in result.shares.items():
            bounds = f"[{share.low:.3f}, {share.high:.3f}]"
            say(f"  {result.subject}: {measure} {share.value:.3f} {bounds}")


def asdict_all(found: dict[str, Any]) -> dict[str, str]:
    return {
        name: ", ".join(f"{key} {value:+.4f}" for key, value in asdict(difference).items())
        for name, difference in found.items()
    }
