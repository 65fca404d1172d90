"""`train-adapter`: from a base and data to a judged, published adapter folder (or tuned model).

python -m trainer train-adapter --output adapters/safety-r1 --retain 0.5
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from trainer.answer.backend import Backend
from trainer.answer.exam_backend import exam_backend
from trainer.data import generated as data
from trainer.data.training_set import (
    Examples,
    TrainingSet,
    examples_of,
    training_set,
    with_retained,
)
from trainer.fit.adapter import continued, model_folder, prepared, recipe_of, trained_parameters
from trainer.fit.checkpoint import load_weights
from trainer.fit.fit import Epoch, Hardware, fit
from trainer.measure.evaluate import take_exam
from trainer.measure.strength import choose_strength
from trainer.publish.provenance import provenance
from trainer.publish.publish import check_output
from trainer.shared.device import check_device
from trainer.shared.failure import Failure
from trainer.shared.io import load_model
from trainer.shared.recipe import Config, Recipe, default_config, layer_span, read_config
from trainer.shared.repository import logical_name
from trainer.train_adapter import judging
from trainer.train_adapter.outcome import Examined, Outcome
from trainer.weights.lora_folder import LoraFolder, adapter_digest, read_lora
from trainer.world.exam import SET_NAMES, Exam, build_exam

EMBEDDED = "models/tiny-reasoner"
SHAPE = ("mode", "rank", "alpha", "dropout", "target_modules", "layers")  # an adapter has its own


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


def check_shape_flags(overrides: dict[str, Any]) -> None:
    given = [name for name in SHAPE if overrides.get(name) is not None]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise Failure(
            f"--adapter brings its own shape; got {flags} beside it; leave these flags out"
        )


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


@dataclass(frozen=True)
class Base:
    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str  # as an adapter states it
    config: Config
    recipe: Recipe  # of the config, or of the adapter that is trained on
    source: str | None  # of the data; None: generated
    adapter: LoraFolder | None  # to be trained on
    backend: Backend

    @property
    def context(self) -> int:
        return self.model.config.max_position_embeddings


def prepared_base(options: TrainOptions) -> Base:
    check_device(options.device)
    check_output(options.output)
    model, tokenizer, config, name = base_and_config(options)
    layers, recipe = model.config.num_hidden_layers, config.recipe
    adapter = read_lora(options.adapter) if options.adapter else None
    if adapter:
        check_shape_flags(options.overrides)
        recipe = recipe_of(adapter, recipe, layers)
    layer_span(recipe.layers, layers)
    return Base(
        model=model,
        tokenizer=tokenizer,
        name=name,
        config=config,
        recipe=recipe,
        source=options.data or config.data,
        adapter=adapter,
        backend=exam_backend(model, tokenizer),
    )


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


def base_and_config(
    options: TrainOptions,
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase, Config, str]:
    """And the base's name, as an adapter states it. A config file may name the model; without one,
    the model's size names the config."""
    given = read_config(options.config, options.overrides) if options.config else None
    name = options.model or (given and given.model) or EMBEDDED
    dtype = options.overrides.get("dtype") or (given.recipe.dtype if given else "auto")
    model, tokenizer = load_model(name, dtype)
    if given is None:
        size = sum(p.numel() for p in model.parameters())
        given = read_config(default_config(size), options.overrides)
    return model, tokenizer, given, logical_name(Path(name)) if Path(name).is_dir() else name


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
