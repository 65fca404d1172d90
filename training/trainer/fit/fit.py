"""The training loop: AdamW with linear decay, loss on completions, a checkpoint every epoch.

Runs in one process or in many under `accelerate launch`. Not here: what is learned (data/), how a
model is judged (measure/), how an adapter ships (publish/).
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from trainer.fit import checkpoint, plan, prefix_cache
from trainer.fit.adapter import first_trained_layer, trained_parameters
from trainer.fit.completion_loss import (
    CompletionLoss,
    can_split,
    causal_model,
    is_random,
    pack_tokens,
)
from trainer.fit.heap import Heap
from trainer.fit.lean_layers import make_lean
from trainer.fit.prefix_cache import PrefixCache
from trainer.fit.regularise import Regulariser
from trainer.shared.batches import Encoded, collate, packed
from trainer.shared.failure import Failure
from trainer.shared.progress import Progress
from trainer.shared.recipe import Recipe

MAX_NORM = 1.0  # of the gradient


@dataclass(frozen=True)
class Epoch:
    """What was left after one epoch."""

    number: int  # from 1
    loss: float  # mean training loss over the epoch's steps
    seconds: float  # spent training, judging not counted
    checkpoint: Path | None  # a PEFT folder, or a whole model's


@dataclass(frozen=True)
class Hardware:
    """Where a run computes and what it may keep; nothing here changes what is learned."""

    cpu: bool = False
    prefix_cache: prefix_cache.CacheLocation = "memory"
    cache_bytes: int = 4 << 30
    gradient_checkpointing: bool = False


def fit(
    model: nn.Module,
    rows: Sequence[Encoded],
    recipe: Recipe,
    *,
    pad_id: int,
    seed: int,
    folder: Path | None = None,
    resume: bool = False,
    fingerprint: dict[str, Any] | None = None,
    hardware: Hardware | None = None,
    after_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Trains `model` (adapter.prepared) in place. Every epoch is saved under `folder`, if there is
    one, then handed to `after_epoch`. With `resume` the epochs that are there are not trained
    again; the rest comes out as if there had been no break."""
    run = Run(model, rows, recipe, pad_id, seed, folder, hardware or Hardware())
    whole = {**recipe.as_json(), "seed": seed, **(fingerprint or {})}
    return run.epochs(whole, resume, after_epoch)


class Run:
    def __init__(
        self,
        model: nn.Module,
        rows: Sequence[Encoded],
        recipe: Recipe,
        pad_id: int,
        seed: int,
        folder: Path | None,
        hardware: Hardware,
    ) -> None:
        self.model, self.rows, self.recipe = model, rows, recipe
        self.pad_id, self.seed, self.folder = pad_id, seed, folder
        self.lengths = [len(row) for row in rows]
        if hardware.gradient_checkpointing:
            causal_model(model).gradient_checkpointing_enable({"use_reentrant": False})
        self.accelerator = Accelerator(cpu=hardware.cpu)
        make_lean(model)
        first_layer = first_trained_layer(model)
        if first_layer is not None and not can_split(model):
            first_layer = None
        loss = CompletionLoss(model, first_layer)
        optimizer = torch.optim.AdamW(
            trained_parameters(model).values(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
        )
        self.loss, self.optimizer = self.accelerator.prepare(loss, optimizer)
        self.parameters = trained_parameters(self.plain_loss.model)
        self.cache = self.fill_cache(first_layer, hardware)
        is_regularised = recipe.reg != "none"
        self.penalty = Regulariser(model, recipe.reg, recipe.beta) if is_regularised else None
        self.pack_tokens = 0 if self.is_sharded else pack_tokens(model)
        self.heap = Heap() if self.accelerator.device.type == "cpu" else None
        self.processes = self.accelerator.num_processes
        self.rows_per_step = recipe.batch_size * recipe.grad_accum * self.processes
        self.steps_per_epoch = -(-len(rows) // self.rows_per_step)
        self.steps = 0  # of the optimizer, so far

    @property
    def plain_loss(self) -> CompletionLoss:
        return self.accelerator.unwrap_model(self.loss)

    @property
    def is_sharded(self) -> bool:
        return self.accelerator.state.distributed_type.value == "FSDP"

    def fill_cache(self, first_layer: int | None, hardware: Hardware) -> PrefixCache | None:
        """None where nothing lies below, where it is random, or where no process holds it whole."""
        if not first_layer or hardware.prefix_cache == "off" or self.is_sharded:
            return None
        if is_random(self.model, first_layer):
            return None
        file = None
        if hardware.prefix_cache == "disk" and self.folder is not None:
            file = self.folder / f"prefix-{self.accelerator.process_index}.bin"
        self.plain_loss.eval()
        device = self.accelerator.device
        return prefix_cache.fill(
            self.plain_loss, self.rows, self.pad_id, device, limit=hardware.cache_bytes, file=file
        )

    def epochs(
        self, fingerprint: dict[str, Any], resume: bool, after_epoch: Callable[[Epoch], None]
    ) -> list[Epoch]:
        losses, seconds = self.begin(fingerprint, resume)
        done = [
            Epoch(i, loss, took, self.folder and checkpoint.folder_of(self.folder, i))
            for i, (loss, took) in enumerate(zip(losses, seconds, strict=True), start=1)
        ]
        for number in range(len(done) + 1, self.recipe.epochs + 1):
            started = time.monotonic()
            losses.append(self.one_epoch(number))
            seconds.append(time.monotonic() - started)
            saved = self.save(checkpoint.State(number, self.steps, losses, seconds, fingerprint))
            done.append(Epoch(number, losses[-1], seconds[-1], saved))
            after_epoch(done[-1])
        self.forget_cache()
        return done

    def begin(self, fingerprint: dict[str, Any], resume: bool) -> tuple[list[float], list[float]]:
        """The losses and seconds of the epochs that need no training."""
        state = checkpoint.newest(self.folder) if resume and self.folder else None
        if state is None:
            if self.folder and self.accelerator.is_main_process:
                checkpoint.clear(self.folder)
            self.accelerator.wait_for_everyone()
            return [], []
        checkpoint.check_same_run(state, fingerprint, self.folder)
        last = checkpoint.folder_of(self.folder, state.epoch)
        checkpoint.load_weights(last, self.parameters)
        checkpoint.restore_moments(
            self.optimizer, self.parameters, last / "optimizer.safetensors", state.steps
        )
        self.steps = state.steps
        return list(state.losses), list(state.seconds)

    def one_epoch(self, number: int) -> float:
        """Mean loss a token over the epoch's steps, without the penalty."""
        # Each epoch seeds its own dropout, so a resumed run draws the same numbers.
        name = f"{self.seed}/dropout/{number}/{self.accelerator.process_index}"
        torch.manual_seed(random.Random(name).getrandbits(63))
        rng = plan.order_rng(self.seed, number)
        steps = plan.steps_of_epoch(len(self.rows), self.rows_per_step, rng)
        left = f"{self.recipe.epochs - number} epochs after this"
        progress = Progress(f"epoch {number}/{self.recipe.epochs}", len(self.rows), "examples")
        self.loss.train()
        total = 0.0
        for index, step in enumerate(steps):
            loss = self.one_step(step)
            where = f"epoch {number}, step {index + 1} of {len(steps)}"
            self.check_finite("loss", loss, where, number)
            norm = self.accelerator.clip_grad_norm_(list(self.parameters.values()), MAX_NORM)
            self.check_finite("gradient", float(norm), where, number)
            self.optimizer.step()
            self.steps += 1
            total += loss
            progress.advance(len(step), f"loss {loss:.4f}  {left}")
        progress.close()
        return total / len(steps)

    def one_step(self, step: Sequence[int]) -> float:
        """Gradients of the mean loss over the completion tokens of all processes; that loss."""
        self.set_rate()
        self.optimizer.zero_grad()
        tokens = sum(len(self.rows[i].completion) for i in step)
        groups = self.groups(step)
        summed = 0.0
        for position, group in enumerate(groups):
            is_last = position == len(groups) - 1
            quiet = contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.loss)
            with quiet:
                # A process without examples in a last, small step still takes part in the sum.
                loss = self.group_loss(group or step[:1]) * (1 if group else 0)
                summed += loss.item()
                loss = loss * self.processes / tokens  # the processes' gradients are averaged
                if is_last and self.penalty is not None:
                    loss = loss + self.penalty()
                self.accelerator.backward(loss)
        mine = torch.tensor(summed / tokens, device=self.accelerator.device)
        return float(self.accelerator.reduce(mine, "sum"))

    def set_rate(self) -> None:
        """Linear decay to 0 over all steps."""
        rate = self.recipe.learning_rate
        rate *= 1 - self.steps / (self.steps_per_epoch * self.recipe.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def groups(self, step: Sequence[int]) -> list[list[int]]:
        index = self.accelerator.process_index
        mine = plan.share_of(step, self.lengths, index, self.processes)
        if self.is_sharded:
            return plan.even_groups(mine, self.recipe.grad_accum)
        most = self.recipe.batch_size
        return plan.grouped(mine, self.lengths, most, pack_tokens=self.pack_tokens) or [[]]

    def group_loss(self, group: Sequence[int]) -> Tensor:
        rows = [self.rows[i] for i in group]
        is_packed = plan.is_packed(group, self.lengths, self.pack_tokens)
        batch = packed(rows) if is_packed else collate(rows, self.pad_id)
        if self.heap:
            self.heap.make_room(batch.inputs.numel())
        hidden = None
        if self.cache:
            take = self.cache.packed if is_packed else self.cache.rows
            hidden = take(group, rows)
        tensors = (batch.inputs, batch.labels, hidden, batch.positions)
        return self.loss(*(None if t is None else t.to(self.accelerator.device) for t in tensors))

    def check_finite(self, what: str, value: float, where: str, number: int) -> None:
        if math.isfinite(value):
            return
        kept = "no checkpoint was written yet"
        if self.folder and number > 1:
            kept = f"the last good checkpoint is {checkpoint.folder_of(self.folder, number - 1)}"
        raise Failure(
            f"the {what} must be finite; got {value} in {where}; {kept}; lower --learning-rate "
            "or look for broken examples"
        )

    def save(self, state: checkpoint.State) -> Path | None:
        if self.folder is None:
            return None
        weights = self.accelerator.get_state_dict(self.loss) if self.is_sharded else None
        moments = checkpoint.moments_of(self.optimizer, self.parameters)
        if self.accelerator.is_main_process:
            checkpoint.save(
                self.folder, state, lambda path: self.save_weights(path, weights), moments
            )
        self.accelerator.wait_for_everyone()
        return checkpoint.folder_of(self.folder, state.epoch)

    def save_weights(self, path: Path, gathered: dict[str, Tensor] | None) -> None:
        model = self.plain_loss.model
        options: dict[str, Any] = {}
        if gathered is not None:
            options["state_dict"] = {k.removeprefix("model."): v for k, v in gathered.items()}
        if self.recipe.mode == "lora":
            options["save_embedding_layers"] = False
        model.save_pretrained(path, **options)

    def forget_cache(self) -> None:
        if self.folder is not None:
            index = self.accelerator.process_index
            (self.folder / f"prefix-{index}.bin").unlink(missing_ok=True)


@torch.inference_mode()
def held_out_loss(model: nn.Module, rows: Sequence[Encoded], pad_id: int) -> float:
    """Mean loss over the completion tokens of `rows`."""
    was_training = model.training
    model.eval()
    loss = CompletionLoss(model, None)
    device = next(model.parameters()).device
    lengths = [len(row) for row in rows]
    total = 0.0
    for group in plan.grouped(plan.share_of(range(len(rows)), lengths, 0, 1), lengths, 64):
        found = collate([rows[i] for i in group], pad_id)
        total += loss(found.inputs.to(device), found.labels.to(device)).item()
    model.train(was_training)
    return total / sum(len(row.completion) for row in rows)
