"""One training run in a process of its own: python -m speed.worker JSON, one JSON line back."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from speed import stock
from speed.memory import Peak
from speed.shapes import PAD_ID, SHAPES, random_model
from speed.workloads import Workload, real_tokens, rows_of
from trainer.fit.adapter import prepared, trained_parameters
from trainer.fit.fit import Hardware, fit
from trainer.fit.prefix_cache import CacheLocation
from trainer.fit.primitive_cache import keep_few_primitives
from trainer.shared.recipe import Dtype, Recipe

Kind = Literal["ours", "stock", "stock-grouped", "stock-ordered"]


@dataclass(frozen=True)
class Job:
    kind: Kind
    workload: Workload
    shape: str
    device: str
    dtype: Dtype
    rows: int
    seed: int
    threads: int
    recipe: Recipe
    prefix_cache: CacheLocation
    gradient_checkpointing: bool


@dataclass(frozen=True)
class Outcome:
    kind: Kind
    seconds: float  # the whole training, filling the cache included; loading the model is not
    cpu_seconds: float  # of this process: what other work beside it takes is not in it
    peak_bytes: int | None  # above what the process held with the model loaded
    losses: list[float]  # of each epoch
    padding: float  # share of the tokens that went through the trained layers for nothing
    update: list[float]  # the adapter's B matrices, flat and thinned, to compare runs
    weight_bytes: int


def run(job: Job) -> Outcome:
    torch.set_num_threads(job.threads)
    base = random_model(job.shape, job.dtype, job.device, job.seed)
    weight_bytes = sum(p.numel() * p.element_size() for p in base.parameters())
    rows = rows_of(job.workload, job.rows, SHAPES[job.shape].vocab_size, job.seed)
    computed = count_tokens(base)
    peak = Peak(job.device)
    started, started_cpu = time.perf_counter(), time.process_time()
    model = prepared(base, job.recipe, "random", job.seed)
    losses = train(model, rows, job)
    if job.device == "cuda":
        torch.cuda.synchronize()
    seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    return Outcome(
        kind=job.kind,
        seconds=seconds,
        cpu_seconds=cpu,
        peak_bytes=peak.above(),
        losses=losses,
        padding=1 - real_tokens(rows) * job.recipe.epochs / sum(computed),
        update=thinned_update(model),
        weight_bytes=weight_bytes,
    )


def train(model: torch.nn.Module, rows: list[Any], job: Job) -> list[float]:
    is_cpu = job.device == "cpu"
    if job.kind == "ours":
        keep_few_primitives()
        hardware = Hardware(
            cpu=is_cpu,
            prefix_cache=job.prefix_cache,
            gradient_checkpointing=job.gradient_checkpointing,
        )
        epochs = fit(model, rows, job.recipe, pad_id=PAD_ID, seed=job.seed, hardware=hardware)
        return [epoch.loss for epoch in epochs]
    is_ordered = job.kind == "stock-ordered"
    return stock.train(
        model,
        rows,
        job.recipe,
        seed=job.seed,
        strategy="group_by_length" if job.kind == "stock-grouped" else "random",
        is_cpu=is_cpu,
        gradient_checkpointing=job.gradient_checkpointing,
        orders=stock.fits_orders(len(rows), job.recipe, job.seed) if is_ordered else None,
    )


def count_tokens(base: torch.nn.Module) -> list[int]:
    """Grows by rows * length with every pass: the last layer's first norm sees each token once."""
    counts: list[int] = []
    base.model.layers[-1].input_layernorm.register_forward_pre_hook(
        lambda _, inputs: counts.append(inputs[0].shape[0] * inputs[0].shape[1])
    )
    return counts


def thinned_update(model: torch.nn.Module, most: int = 4096) -> list[float]:
    found = [p.detach().flatten() for n, p in trained_parameters(model).items() if "lora_B" in n]
    flat = torch.cat(found).float().cpu()
    return flat[:: max(1, len(flat) // most)].tolist()


def main(text: str) -> None:
    values = json.loads(text)
    values["recipe"]["target_modules"] = tuple(values["recipe"]["target_modules"])
    job = Job(**values | {"recipe": Recipe(**values["recipe"])})
    print(json.dumps(asdict(run(job))))


if __name__ == "__main__":
    main(sys.argv[1])
