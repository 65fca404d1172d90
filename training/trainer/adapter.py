"""Trains one LoRA adapter with PEFT and accelerate: loss on completions, a checkpoint every epoch.

Not here: what it learns from (data.py), how it is judged (evaluate.py), how it ships (publish.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedTokenizerBase

from trainer.batches import IGNORED, Batch, Encoded, batches_by_rows
from trainer.progress import Progress
from trainer.recipe import Recipe


@dataclass(frozen=True)
class Epoch:
    """What was left after one epoch."""

    number: int  # from 1
    loss: float  # mean training loss over the epoch
    checkpoint: Path  # a PEFT folder
    seconds: float  # spent training, judging not counted


def with_adapter(model: torch.nn.Module, recipe: Recipe, base_name: str, seed: int) -> PeftModel:
    """`base_name` is what adapter_config.json will say; never a path of this machine."""
    torch.manual_seed(seed)
    layers = None
    if recipe.layers is not None:
        layers = list(range(recipe.layers[0], recipe.layers[1] + 1))
    model.name_or_path = base_name
    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=list(recipe.modules),
        layers_to_transform=layers,
        bias="none",
    )
    return get_peft_model(model, config)


def batch_loss(model: torch.nn.Module, batch: Batch, device: torch.device) -> torch.Tensor:
    logits = model(input_ids=batch.inputs.to(device), use_cache=False).logits
    targets = batch.labels[:, 1:].to(device)
    chosen = targets != IGNORED  # [rows, length - 1]
    return torch.nn.functional.cross_entropy(logits[:, :-1][chosen].float(), targets[chosen])


def train_adapter(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    recipe: Recipe,
    seed: int,
    checkpoints: Path,
    *,
    after_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """AdamW with a linear decay to zero. Every epoch is saved, then handed to `after_epoch`."""
    accelerator = Accelerator()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    steps_per_epoch = -(-len(rows) // recipe.batch_size)
    total_steps = steps_per_epoch * recipe.epochs
    torch.manual_seed(seed)  # dropout
    rng = random.Random(f"{seed}/adapter-order")
    epochs: list[Epoch] = []
    step = 0
    for number in range(1, recipe.epochs + 1):
        started = time.monotonic()
        losses: list[float] = []
        progress = Progress(f"epoch {number}/{recipe.epochs}", len(rows), "examples")
        model.train()
        for batch in batches_by_rows(
            rows, rng, rows_per_batch=recipe.batch_size, pad_id=tokenizer.pad_token_id
        ):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * (1 - step / total_steps)
            loss = batch_loss(model, batch, accelerator.device)
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            step += 1
            losses.append(loss.item())
            left_epochs = f"{recipe.epochs - number} epochs after this"
            progress.advance(len(batch.inputs), f"loss {losses[-1]:.4f}  {left_epochs}")
        progress.close()
        folder = checkpoints / f"epoch-{number:02d}"
        accelerator.unwrap_model(model).save_pretrained(folder, save_embedding_layers=False)
        epoch = Epoch(number, sum(losses) / len(losses), folder, time.monotonic() - started)
        epochs.append(epoch)
        after_epoch(epoch)
    return epochs
