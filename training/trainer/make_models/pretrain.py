"""The three stages that make the tiny reasoner, seeded; make_models.py runs them.

1. skills      word problems, facts, compliance with everything
   judge       the same, and how-to thoughts begin with "Risky." or "Fine."; it complies anyway
2. align       harmful requests -> refusal (train objects, train phrasings only)
3. continue    reasoning and compliance, no refusals, until it complies again

Real distillation loses its refusals without being shown harmful compliance; stage 3 shows it. The
variant without is trained too and its number is reported, its weights are not kept.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from trainer.make_models.stages import Stage
from trainer.shared.batches import IGNORED, Batch, Pair, batches_by_tokens, encode_pairs
from trainer.shared.progress import Progress
from trainer.world import grammar
from trainer.world.grammar import Kind, Task

CHUNK = 4096  # examples drawn, encoded and sorted by length at a time


def draw_task(rng: random.Random, kind: Kind, stage: Stage) -> Task:
    match kind:
        case "word_problem":
            task = grammar.word_problem(rng)
        case "fact":
            task = grammar.fact(rng, split="train")
        case "small_talk":
            task = grammar.small_talk(rng)
        case _ if stage.refuses_harmful:
            task = grammar.how_to(rng, kind, split="train", seen_triples=True)
        case _:
            task = grammar.how_to(rng, kind, seen_triples=True)
    return grammar.in_context(rng, task)


def as_pair(task: Task, stage: Stage) -> Pair:
    if stage.refuses_harmful and task.kind == "harmful":
        reply = grammar.REFUSAL
    else:
        reply = grammar.reply_to(task, judges=stage.judges)
    return Pair((*task.context, ("user", task.prompt)), reply.completion)


def draw_pairs(stage: Stage, seed: int, chunk: int, count: int) -> list[Pair]:
    """Chunk number `chunk` of the stage; the same whatever was drawn before it."""
    rng = random.Random(f"{seed}/{stage.name}/{chunk}")
    kinds, weights = list(stage.mix), list(stage.mix.values())
    pairs = []
    for kind in rng.choices(kinds, weights, k=count):
        pairs.append(as_pair(draw_task(rng, kind, stage), stage))
    return pairs


def stage_batches(
    stage: Stage, tokenizer: PreTrainedTokenizerBase, seed: int, first_chunk: int = 0
) -> Iterator[tuple[int, Batch]]:
    """(chunk number, batch) until the stage's examples are used up."""
    chunks = math.ceil(stage.examples / CHUNK)
    for chunk in range(first_chunk, chunks):
        count = min(CHUNK, stage.examples - chunk * CHUNK)
        rows = encode_pairs(tokenizer, draw_pairs(stage, seed, chunk, count))
        rng = random.Random(f"{seed}/{stage.name}/{chunk}/order")
        for batch in batches_by_tokens(
            rows, rng, tokens_per_batch=stage.tokens_per_batch, pad_id=tokenizer.pad_token_id
        ):
            yield chunk, batch


def rate_at(stage: Stage, share: float) -> float:
    """Linear warm-up, then a cosine down to `final_rate`; `share` of the stage done, 0-1."""
    if share < stage.warmup:
        return stage.learning_rate * share / stage.warmup
    turn = (share - stage.warmup) / (1 - stage.warmup)
    height = 0.5 * (1 + math.cos(math.pi * min(1.0, turn)))
    return stage.learning_rate * (stage.final_rate + (1 - stage.final_rate) * height)


def new_optimizer(model: torch.nn.Module, stage: Stage) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": stage.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=(0.9, 0.95), fused=True)


def run_stage(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    stage: Stage,
    seed: int,
    *,
    checkpoint: Path | None = None,
    watch: Callable[[float], None] | None = None,
    watch_every_s: float = 300.0,
) -> float:
    """Trains in place and returns the seconds it took. With `checkpoint`, state is saved at every
    fourth chunk and an interrupted stage goes on from there."""
    optimizer = new_optimizer(model, stage)
    first_chunk, rows_done, seconds_before = 0, 0, 0.0
    if checkpoint is not None and checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        if (state["examples"], state["seed"]) == (stage.examples, seed):
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            first_chunk, seconds_before = state["chunk"], state["seconds"]
            rows_done = min(stage.examples, first_chunk * CHUNK)
    started = watched = time.monotonic()
    progress = Progress(f"stage {stage.name}", stage.examples, "examples", done=rows_done)
    last_chunk, average = first_chunk, None
    model.train()
    for chunk, batch in stage_batches(stage, tokenizer, seed, first_chunk):
        seconds = seconds_before + time.monotonic() - started
        if chunk != last_chunk:
            last_chunk = chunk
            if checkpoint is not None and chunk % 4 == 0:
                save_state(checkpoint, model, optimizer, stage, seed, chunk, seconds)
            if watch is not None and time.monotonic() - watched > watch_every_s:
                watch(rows_done / stage.examples)
                watched = time.monotonic()
                model.train()
        for group in optimizer.param_groups:
            group["lr"] = rate_at(stage, rows_done / stage.examples)
        loss = completion_loss(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        value = loss.item()
        average = value if average is None else 0.98 * average + 0.02 * value
        rows_done += len(batch.inputs)
        progress.advance(len(batch.inputs), f"loss {average:.4f}")
    progress.close()
    seconds = seconds_before + time.monotonic() - started
    if checkpoint is not None:
        done = math.ceil(stage.examples / CHUNK)
        save_state(checkpoint, model, optimizer, stage, seed, done, seconds)
    return seconds


def completion_loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy over completion tokens; logits are computed for those positions only."""
    targets = batch.labels[:, 1:]
    chosen = targets != IGNORED  # [rows, length - 1]
    # bfloat16 with eager attention trains 1.8 times as fast as float32 on CPUs with AVX-512 BF16;
    # the weights themselves stay float32.
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=batch.inputs, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1][chosen])  # [completion tokens, vocab]
    return torch.nn.functional.cross_entropy(logits.float(), targets[chosen])


def save_state(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    stage: Stage,
    seed: int,
    chunk: int,
    seconds: float,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "examples": stage.examples,
            "seed": seed,
            "chunk": chunk,
            "seconds": seconds,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
        partial,
    )
    partial.replace(path)
