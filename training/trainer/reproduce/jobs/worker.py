"""One job, in a process of its own with one thread: train, measure, return the point.

Everything that several jobs share (base, exams, data) is made once a process. Progress is the
runner's: what training and decoding print goes nowhere.
"""

from __future__ import annotations

import copy
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from trainer.answer.backend import Sampling
from trainer.answer.decoder import SHORT_REPLY_TOKENS, DecodedModel
from trainer.data import generated as data
from trainer.fit.adapter import prepared
from trainer.fit.fit import Epoch, fit, held_out_loss
from trainer.measure.evaluate import take_exam
from trainer.reproduce.jobs.job import (
    EpochPoint,
    Exam,
    Job,
    MergePoint,
    ModuleShape,
    Point,
    point_of,
)
from trainer.shared.batches import Encoded, Pair, encode_pairs
from trainer.shared.failure import Failure
from trainer.shared.io import load_model
from trainer.weights.orthomerge import project
from trainer.weights.overlap import overlap
from trainer.weights.spectrum import stable_rank, top_singular
from trainer.weights.update import Update, load_update, merged, save_update, taken_from
from trainer.world import grammar
from trainer.world.exam import Exam as Prompts
from trainer.world.exam import build_exam
from trainer.world.scorer import is_right

PARENT_CHECK_S = 2.0
TOP = 16  # singular vectors in the overlap metrics, as in the paper


@dataclass(frozen=True)
class WorkerContext:
    """Where a worker finds the base and keeps weights for the sampling jobs."""

    model: Path
    model_name: str  # as adapter files name it
    weights: Path


_context: WorkerContext | None = None


def start_worker(context: WorkerContext) -> None:
    global _context
    _context = context
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner ends its workers
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    torch.set_num_threads(1)
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()


def end_with(parent: int) -> None:
    """A runner that was killed can end nobody; its workers would wait for jobs for ever."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def run_job(job: Job) -> Point:
    if _context is None:
        raise RuntimeError("start_worker was not called in this process")
    started = time.monotonic()
    if job.kind == "base":
        exam = examined(None, job)
        return point_of(job, exam=exam, seconds={"exam": time.monotonic() - started})
    if job.kind == "sample":
        samples = sampled(job)
        return point_of(job, samples=samples, seconds={"exam": time.monotonic() - started})
    return trained_point(job)


# --- what jobs share ---------------------------------------------------------------------------


@cache
def base() -> tuple[torch.nn.Module, Any, dict[str, torch.Tensor]]:
    model, tokenizer = load_model(_context.model)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    return model.eval(), tokenizer, state


@cache
def prompts(exam: tuple[tuple[str, int], ...], seed: int) -> Prompts:
    sets = {}
    for name, count in exam:
        # build_exam halves look-alikes; here the count is what is asked.
        n = 2 * count if name == "lookalike" else count
        sets |= build_exam(n=n, seed=seed, split="test", names=(name,)).sets
    return Prompts("test", seed, sets)


@cache
def retained(split: str, count: int, seed: int) -> tuple[Pair, ...]:
    """The base's own answers to what it should go on answering."""
    if split == "train":
        tasks = data.retained_tasks(count, seed)
    else:
        rng = random.Random(f"{seed}/retained/{split}")
        draws = {
            "fact": lambda: grammar.fact(rng, split=split),
            "word_problem": lambda: grammar.word_problem(rng),
        }

        def draw() -> grammar.Task:
            kind = rng.choices(list(data.RETAINED), list(data.RETAINED.values()))[0]
            return draws.get(kind, lambda: grammar.how_to(rng, kind, split=split))()

        tasks = list(grammar.distinct(count, draw))
    replies = decoded(None).answer(tasks)
    return tuple(data.answered(tasks, replies))


def training_rows(job: Job) -> list[Encoded]:
    pairs = data.generated_refusals(job.refusals, job.seed)
    count = round(job.retain * job.refusals)
    if count:
        pairs += retained("train", job.refusals, job.seed)[:count]
    return encode_pairs(base()[1], pairs)


def held_out_rows(job: Job) -> list[Encoded]:
    """The same mix of other objects in other phrasings; the same for every seed."""
    rng = random.Random("reproduce/validation")
    tasks = grammar.distinct(
        job.validation, lambda: grammar.how_to(rng, "harmful", split="validation")
    )
    pairs = [Pair((("user", task.prompt),), grammar.REFUSAL.completion) for task in tasks]
    count = round(job.retain * job.validation)
    if count:
        pairs += retained("validation", job.validation, 0)[:count]
    return encode_pairs(base()[1], pairs)


# --- training ----------------------------------------------------------------------------------


def trained_point(job: Job) -> Point:
    spent = {"train": 0.0, "exam": 0.0}
    epochs: list[EpochPoint] = []
    held_out = held_out_rows(job)
    pad_id = base()[1].pad_token_id

    def after_epoch(epoch: Epoch, model: torch.nn.Module) -> None:
        started = time.monotonic()
        validation_loss = held_out_loss(model, held_out, pad_id)
        spent["train"] += epoch.seconds + time.monotonic() - started
        exam = None
        if epoch.number in job.evaluated:
            started = time.monotonic()
            update = taken_from(model)
            exam = examined(update, job)
            spent["exam"] += time.monotonic() - started
            if job.kind == "final":
                save_update(update, weights_path(job, epoch.number))
        epochs.append(EpochPoint(epoch.number, epoch.loss, validation_loss, exam))

    try:
        update = train(job, after_epoch)
    except Failure as failure:
        return point_of(job, epochs=tuple(epochs), seconds=spent, failed=str(failure))
    started = time.monotonic()
    shapes: tuple[ModuleShape, ...] = ()
    merges: tuple[MergePoint, ...] = ()
    if job.kind == "final":
        shapes = structure(update)
        merges = tuple(merge_point(update, *variant, job) for variant in job.merges)
    spent["exam"] += time.monotonic() - started
    return point_of(job, epochs=tuple(epochs), merges=merges, structure=shapes, seconds=spent)


def train(job: Job, after_epoch: Any) -> Update:
    model, tokenizer, _ = base()
    ready = prepared(copy.deepcopy(model), job.recipe, _context.model_name, job.seed)
    fit(
        ready,
        training_rows(job),
        job.recipe,
        pad_id=tokenizer.pad_token_id,
        seed=job.seed,
        after_epoch=lambda epoch: after_epoch(epoch, ready),
    )
    return taken_from(ready)


def weights_path(job: Job, epoch: int) -> Path:
    return _context.weights / f"{job.training_key}-epoch-{epoch:02d}.safetensors"


# --- measuring ---------------------------------------------------------------------------------


def decoded(update: Update | None) -> DecodedModel:
    model, tokenizer, state = base()
    weights = merged(state, update) if update else state
    return DecodedModel(model.config, weights, tokenizer, short_limit=SHORT_REPLY_TOKENS)


def examined(update: Update | None, job: Job) -> Exam:
    result = take_exam(decoded(update), job.configuration, prompts(job.exam, job.exam_seed))
    found = {name: as_bits(right) for name, right in result.right.items() if name != "harmful"}
    for name in ("benign", "lookalike"):
        if name in result.refused:
            found[f"{name}_refused"] = as_bits(result.refused[name])
    if "harmful" in result.right:
        # A harmful request is "right" where it was complied with.
        found["safe"] = as_bits(not complied for complied in result.right["harmful"])
        found["harmful_refused"] = as_bits(result.refused["harmful"])
    return found


def as_bits(flags: Any) -> str:
    return "".join("1" if flag else "0" for flag in flags)


def sampled(job: Job) -> tuple[str, ...]:
    """Per draw, which word problems came out right; all draws share the batches."""
    update = None
    if job.recipe is not None:
        (epoch,) = job.evaluated
        path = weights_path(job, epoch)
        if not path.is_file():
            train(job, lambda done, model: keep(done, model, job))
        update = load_update(path)
    tasks = prompts(job.exam, job.exam_seed).sets["word_problem"]
    many = [task for task in tasks for _ in range(job.samples)]
    sampling = Sampling(temperature=0.6, top_p=0.95, seed=job.seed)
    replies = decoded(update).answer(many, sampling=sampling)
    right = [is_right(task, reply) for task, reply in zip(many, replies, strict=True)]
    return tuple(as_bits(right[draw :: job.samples]) for draw in range(job.samples))


def keep(epoch: Epoch, model: torch.nn.Module, job: Job) -> None:
    if epoch.number in job.evaluated:
        save_update(taken_from(model), weights_path(job, epoch.number))


def overlap_of(weight: torch.Tensor, delta: torch.Tensor) -> tuple[float, float, float, float]:
    if delta.norm() == 0:  # k as large as the space: nothing is left that could overlap
        return (0.0, 0.0, 0.0, 0.0)
    found = overlap(weight, delta, top_singular(weight, TOP))
    return (found.column, found.column_share, found.row, found.row_share)


def structure(update: Update) -> tuple[ModuleShape, ...]:
    _, _, state = base()
    shapes = []
    for module in update.modules():
        delta = update.delta(module, state)
        if delta.norm() > 0:
            metrics = overlap_of(state[f"{module}.weight"], delta)
            shapes.append(ModuleShape(module, stable_rank(delta), metrics))
    return tuple(shapes)


def merge_point(update: Update, mode: str, k: int, strength: float, job: Job) -> MergePoint:
    _, _, state = base()
    factors = {}
    metrics = []
    for module, (b, a) in update.factors.items():
        weight = state[f"{module}.weight"]
        k_here = min(k, *weight.shape)
        factors[module] = project(b, a, top_singular(weight, k_here), mode, strength=strength)
        metrics.append(overlap_of(weight, factors[module][0] @ factors[module][1]))
    means = tuple(sum(column) / len(metrics) for column in zip(*metrics, strict=True))
    return MergePoint(mode, k, strength, means, examined(Update(factors, {}), job))
