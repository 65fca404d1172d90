"""`train-adapter`: from a base and data to a judged, published adapter folder (or tuned model).

python -m trainer train-adapter --output adapters/safety-r1 --retain 0.5
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from trainer.answer.exam_backend import exam_backend
from trainer.data.training_set import (
    Examples,
    TrainingSet,
    examples_of,
    training_set,
    with_retained,
)
from trainer.fit.adapter import continued, model_folder, prepared, trained_parameters
from trainer.fit.checkpoint import load_weights
from trainer.fit.fit import Epoch, Hardware, fit
from trainer.measure.evaluate import take_exam
from trainer.measure.strength import choose_strength
from trainer.publish.provenance import provenance
from trainer.shared.recipe import Config
from trainer.train_adapter import judging
from trainer.train_adapter.base import Base, prepared_base
from trainer.train_adapter.options import TrainOptions
from trainer.train_adapter.outcome import Examined, Outcome
from trainer.weights.lora_folder import adapter_digest
from trainer.world.exam import SET_NAMES, Exam, build_exam


def is_main() -> bool:
    """Under `accelerate launch` only the first process speaks and publishes."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    if is_main():
        print(text, file=sys.stderr, flush=True)


def run(options: TrainOptions) -> None:
    started = time.monotonic()

    # 1. The base, and the recipe that fits it.
    base = prepared_base(options)
    say(f"base {base.name}; {base.recipe}")

    # 2. The data.
    examples, trained_on = training_data(options, base)
    say(
        f"data: {examples.words}; {len(trained_on.rows)} training examples, "
        f"{len(trained_on.held_back)} held back"
    )
    origin = origin_of(options, base, examples)

    # 3. The base's exam, before PEFT wraps it; generated data only, the exam speaks its dialect.
    exam = None
    if base.source is None:
        exam = build_exam(n=options.n, seed=options.exam_seed, names=SET_NAMES)
    before = take_exam(base.backend, "base", exam) if exam else None
    validation = judging.validation_exam(options.validation_n)

    # 4. Training; each epoch is judged as it ends.
    model = adapted(options, base)
    judged = trained(options, base, model, trained_on, origin, validation)

    # 5. The chosen epoch examined. Only the first process speaks and publishes.
    chosen = judging.best(judged)
    load_weights(chosen.epoch.checkpoint, trained_parameters(model))
    if not is_main():
        return
    examined = choice = None
    if exam and before:
        after = take_exam(exam_backend(model, base.tokenizer), options.output.name, exam)
        examined = Examined(exam, options.n, before, after, options.choose)
        if base.recipe.mode == "lora" and options.style == "refusal":
            choice = choose_strength(model, base.tokenizer, validation)

    # 6. The folder.
    outcome = Outcome(
        description=options.description or f"Trained on {examples.words}.",
        command=options.command,
        origin=origin,
        judged=judged,
        chosen=chosen,
        minutes=(time.monotonic() - started) / 60,
        examined=examined,
        strength=choice,
    )
    outcome.ship(options.output, base.tokenizer)
    for line in outcome.lines():
        say(f"  {line}")
    say(f"saved {options.output} (epoch {chosen.epoch.number}); {outcome.minutes:.1f} minutes")


def training_data(options: TrainOptions, base: Base) -> tuple[Examples, TrainingSet]:
    examples = examples_of(base.source, options.style, options.examples, options.seed)
    examples = with_retained(examples, options.retain, options.seed, base.backend)
    return examples, training_set(
        examples,
        base.tokenizer,
        max_length=min(base.context, base.recipe.max_length or base.context),
        hold_back=base.source is not None,
        seed=options.seed,
    )


def origin_of(options: TrainOptions, base: Base, examples: Examples) -> dict[str, Any]:
    """The manifest's provenance."""
    origin = provenance(
        base=model_folder(base.model),
        data=examples.words,
        data_sha256=examples.digest,
        config=base.recipe.as_json(),
        seed=options.seed,
    )
    origin["base_model"] = base.name
    if base.adapter:
        origin["continued_from"] = adapter_digest(options.adapter)
    return origin


def adapted(options: TrainOptions, base: Base) -> torch.nn.Module:
    if base.adapter:
        return continued(base.model, base.adapter, base.name, options.seed)
    return prepared(base.model, base.recipe, base.name, options.seed)


def trained(
    options: TrainOptions,
    base: Base,
    model: torch.nn.Module,
    trained_on: TrainingSet,
    origin: dict[str, Any],
    validation: Exam,
) -> list[judging.Judged]:
    pad_id = base.tokenizer.pad_token_id

    def judge(epoch: Epoch) -> judging.Judged:
        if base.source is None:
            return judging.judge_by_exam(epoch, model, base.tokenizer, validation, options.choose)
        return judging.judge_by_loss(epoch, model, trained_on.held_back, pad_id)

    return judged_epochs(
        judge,
        trained_parameters(model),
        lambda after_epoch: fit(
            model,
            trained_on.rows,
            base.recipe,
            pad_id=pad_id,
            seed=options.seed,
            folder=options.checkpoints / options.output.name,
            resume=options.resume,
            fingerprint={
                "data": origin["data_sha256"],
                "base": origin["base_digest"],
                "continued_from": origin.get("continued_from"),
            },
            hardware=hardware_of(options, base.config),
            after_epoch=after_epoch,
        ),
    )


def hardware_of(options: TrainOptions, config: Config) -> Hardware:
    return Hardware(
        cpu=options.device == "cpu",
        prefix_cache=options.prefix_cache,
        cache_bytes=options.cache_bytes,
        gradient_checkpointing=config.gradient_checkpointing
        if options.gradient_checkpointing is None
        else options.gradient_checkpointing,
    )


def judged_epochs(
    judge: Callable[[Epoch], judging.Judged],
    parameters: dict[str, torch.nn.Parameter],
    train: Callable[[Callable[[Epoch], None]], list[Epoch]],
) -> list[judging.Judged]:
    """Each epoch judged as it ends; those that a resumed run took over, from their files."""
    judged: list[judging.Judged] = []

    def after_epoch(epoch: Epoch) -> None:
        judged.append(judge(epoch))
        measures = judged[-1].measures.items()
        shown = "  ".join(f"{name} {value:.3f}" for name, value in measures)
        say(f"epoch {epoch.number}: loss {epoch.loss:.4f}  {shown}")

    epochs = train(after_epoch)
    for epoch in epochs[: len(epochs) - len(judged)]:
        load_weights(epoch.checkpoint, parameters)
        after_epoch(epoch)
    return sorted(judged, key=lambda entry: entry.epoch.number)
