"""One job: train, publish the epochs' weights beside the runs, screen each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from trainer.fit.adapter import prepared
from trainer.fit.completion_loss import causal_model
from trainer.fit.fit import Epoch, Hardware
from trainer.recipes.detector import Readings, install, read, solved
from trainer.recipes.examples import Examples, examples_of
from trainer.recipes.measure import Subject
from trainer.recipes.mixes import Job
from trainer.recipes.own_answers import OwnAnswers
from trainer.recipes.refusals import Style
from trainer.recipes.screening import Answerer, refused, screening_prompts
from trainer.recipes.shared_prefix import SharedPrefixRun
from trainer.recipes.sources import OVERLAPS_SHA256
from trainer.shared.io import load_model
from trainer.shared.recipe import Recipe
from trainer.weights.base_digest import base_digest
from trainer.weights.update import merged, taken_from

BASE_NAME = "SmolLM2-135M-Instruct"
SCREENED = 40  # prompts a set
TOKENS = 10  # of an answer: a refusal begins with itself
LATER_TOKENS = 28  # where a sentence comes first


@dataclass(frozen=True)
class Place:
    """Where a job reads and writes."""

    data_dir: Path
    model: Path
    work: Path  # own answers and checkpoints; never part of the project

    @property
    def own_answers(self) -> OwnAnswers:
        return OwnAnswers(self.work / "own-answers.jsonl")


def screened_tokens(wording: Style) -> int:
    return LATER_TOKENS if wording in ("sentence", "thought") else TOKENS


@contextlib.contextmanager
def float_products() -> Iterator[None]:
    """Answers are judged in whole float32, also where training multiplies in bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def plain_state(model: Any) -> dict[str, Tensor]:
    """The base's weights under a PEFT model, or a model's own."""
    return {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in causal_model(model).state_dict().items()
        if ".lora_" not in name
    }


def recipe_of(job: Job) -> Recipe:
    return Recipe(
        mode="lora", rank=1, alpha=16, dropout=job.dropout, target_modules=("up_proj",),
        layers=job.layers, learning_rate=job.learning_rate, weight_decay=job.weight_decay,
        epochs=job.epochs, batch_size=job.batch_size, grad_accum=1, max_length=None,
        dtype="float32", reg="none", beta=1.0,
    )  # fmt: skip


def prepared_examples(
    job: Job, place: Place, model: Any, tokenizer: PreTrainedTokenizerBase
) -> Examples:
    def base() -> Answerer:
        return Answerer(model.config, plain_state(model), tokenizer)

    return examples_of(job.mix, place.data_dir, tokenizer, place.own_answers, base, job.seed)


def solved_for(job: Job, place: Place, examples: Examples, model: Any) -> Tensor | None:
    """Readings are kept: jobs on the same rows share them."""
    if job.start == "random":
        return None
    path = place.work / "readings" / f"{examples.read_sha256[:16]}.safetensors"
    if not path.is_file():
        read(model, [*examples.rows, *examples.read_harmful, *examples.read_harmless]).save(path)
    is_harmful = torch.tensor(
        [i < examples.num_harmful for i in range(len(examples.rows))]
        + [True] * len(examples.read_harmful)
        + [False] * len(examples.read_harmless)
    )
    return solved(Readings.load(path), is_harmful, job.ridge)


def run_job(job: Job, place: Place, keep: Callable[[dict[str, Any]], None]) -> None:
    """`keep` is given a row for each epoch, as soon as it is screened."""
    model, tokenizer = load_model(place.model, "float32")
    with float_products():  # the base's own answers too
        examples = prepared_examples(job, place, model, tokenizer)
    key = job.key(examples.sha256, base_digest(place.model))
    sets = screening_prompts(place.data_dir, SCREENED)
    detector = solved_for(job, place, examples, model)
    peft = prepared(model, recipe_of(job), BASE_NAME, job.seed)
    if detector is not None:
        install(peft, detector, is_trained=job.start == "warm")
    state = plain_state(peft)

    def screen(epoch: Epoch) -> None:
        started = time.monotonic()
        weights = merged(state, taken_from(peft))
        with float_products():
            answerer = Answerer(model.config, weights, tokenizer)
            shares = refused(answerer, sets, screened_tokens(job.mix.wording))
        keep(
            {
                "job": job.name,
                "key": key,
                "data_sha256": examples.sha256,
                "overlaps_sha256": OVERLAPS_SHA256,
                "examples": len(examples.rows),
                "tokens": sum(map(len, examples.rows)),
                "epoch": epoch.number,
                "strength": 1.0,
                "loss": round(epoch.loss, 4),
                "refused": shares,
                "products": torch.get_float32_matmul_precision(),
                "train_seconds": round(epoch.seconds),
                "screen_seconds": round(time.monotonic() - started),
                "recipe": job.as_json(),
            }
        )

    run = SharedPrefixRun(
        peft, examples.rows, recipe_of(job), tokenizer.pad_token_id, job.seed,
        place.work / "checkpoints" / f"{job.name}-{key}", Hardware(cpu=True),
    )  # fmt: skip
    run.epochs(recipe_of(job).as_json() | {"key": key}, True, screen)


def screen_strengths(
    row: Mapping[str, Any], checkpoint: Path, strengths: Sequence[float], place: Place
) -> Iterator[dict[str, Any]]:
    """A screened epoch again, at other strengths; its row with their shares."""
    model, tokenizer = load_model(place.model, "float32")
    state, sets = model.state_dict(), screening_prompts(place.data_dir, SCREENED)
    for strength in strengths:
        started = time.monotonic()
        weights = Subject(row["job"], checkpoint, strength).weights(state)
        tokens = screened_tokens(row["recipe"]["mix"]["wording"])
        shares = refused(Answerer(model.config, weights, tokenizer), sets, tokens)
        seconds = round(time.monotonic() - started)
        yield {**row, "strength": strength, "refused": shares, "screen_seconds": seconds}
