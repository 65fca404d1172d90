"""Who answers the prompts: a model in this process, or a server over HTTP (served.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from transformers import PreTrainedTokenizerBase

from trainer.batches import render_prompt
from trainer.grammar import Reply, Task
from trainer.progress import Progress

MAX_NEW_TOKENS = 320  # the longest generated reply (four steps, four digits) is about 220


class Backend(Protocol):
    def answer(self, tasks: Sequence[Task], title: str) -> list[Reply]:
        """One greedy reply a task, in order."""
        ...


def split_reply(text: str) -> Reply:
    """Text after the generation prompt; without `</think>` all of it is thought."""
    thought, mark, answer = text.partition("</think>")
    return Reply(thought.strip(), answer.strip() if mark else "")


class LocalModel:
    """Batched greedy generation with transformers."""

    def __init__(
        self, model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, *, rows: int = 256
    ) -> None:
        self.model, self.tokenizer, self.rows = model, tokenizer, rows

    @torch.inference_mode()
    def answer(self, tasks: Sequence[Task], title: str = "answering") -> list[Reply]:
        was_training = self.model.training
        self.model.eval()
        prompts = [
            render_prompt(self.tokenizer, [(m["role"], m["content"]) for m in task.messages])
            for task in tasks
        ]
        # Tasks of one kind and length end together, so few rows of a batch wait for the last one.
        order = sorted(
            range(len(tasks)),
            key=lambda i: (tasks[i].kind, len(tasks[i].steps), len(prompts[i])),
        )
        replies: list[Reply | None] = [None] * len(prompts)
        progress = Progress(title, len(prompts), "prompts")
        for start in range(0, len(order), self.rows):
            chosen = order[start : start + self.rows]
            encoded = self.tokenizer(
                [prompts[i] for i in chosen],
                add_special_tokens=False,
                padding=True,
                return_tensors="pt",
            ).to(next(self.model.parameters()).device)
            output = self.model.generate(
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            written = output[:, encoded["input_ids"].shape[1] :]  # [rows, new tokens]
            for i, text in zip(
                chosen, self.tokenizer.batch_decode(written, skip_special_tokens=True), strict=True
            ):
                replies[i] = split_reply(text)
            progress.advance(len(chosen))
        self.model.train(was_training)
        return [reply for reply in replies if reply is not None]
