"""The stock way: PEFT's model in the Hugging Face Trainer, with the collator it ships."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from torch.utils.data import Sampler
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from trainer.fit import plan
from trainer.shared.batches import IGNORED, Encoded
from trainer.shared.recipe import Recipe

Strategy = Literal["random", "group_by_length"]


def train(
    model: nn.Module,
    rows: Sequence[Encoded],
    recipe: Recipe,
    *,
    seed: int,
    strategy: Strategy,
    is_cpu: bool,
    gradient_checkpointing: bool,
    orders: Sequence[Sequence[int]] | None = None,
) -> list[float]:
    """The mean loss of each epoch. `orders`: which row comes when, epoch by epoch."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=recipe.batch_size,
            gradient_accumulation_steps=recipe.grad_accum,
            num_train_epochs=recipe.epochs,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            lr_scheduler_type="linear",
            train_sampling_strategy=strategy,
            activation_checkpointing=gradient_checkpointing,
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=is_cpu,
            seed=seed,
        )
        kind = Trainer if orders is None else in_order(orders)
        trainer = kind(
            model=model,
            args=arguments,
            train_dataset=[as_features(row) for row in rows],
            data_collator=DataCollatorForSeq2Seq(padding_tokenizer()),
        )
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def as_features(row: Encoded) -> dict[str, Any]:
    return {
        "input_ids": row.prompt + row.completion,
        "attention_mask": [1] * len(row),
        "labels": [IGNORED] * len(row.prompt) + row.completion,
    }


def padding_tokenizer() -> PreTrainedTokenizerFast:
    """Has nothing to do but pad, with token 0."""
    words = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", padding_side="right")


def in_order(orders: Sequence[Sequence[int]]) -> type[Trainer]:
    """The Trainer with the rows in a given order, to compare losses; not what is timed."""

    class Ordered(Sampler[int]):
        left = iter(orders)

        def __len__(self) -> int:
            return len(orders[0])

        def __iter__(self) -> Iterator[int]:
            return iter(next(self.left))

    class OrderedTrainer(Trainer):
        def _get_train_sampler(self, *_: object) -> Sampler[int]:
            return Ordered()

    return OrderedTrainer


def fits_orders(count: int, recipe: Recipe, seed: int) -> list[list[int]]:
    """The order in which `fit` takes rows."""
    size = recipe.batch_size * recipe.grad_accum
    epochs = range(1, recipe.epochs + 1)
    steps = [plan.steps_of_epoch(count, size, plan.order_rng(seed, number)) for number in epochs]
    return [[row for step in epoch for row in step] for epoch in steps]
