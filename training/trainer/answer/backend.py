"""Who answers the prompts: a model in this process, or a server over HTTP (served.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import PreTrainedTokenizerBase

from trainer.shared.batches import render_prompt
from trainer.shared.failure import Failure
from trainer.shared.progress import Progress
from trainer.world.grammar import Reply, Task

MAX_NEW_TOKENS = 320  # the longest generated reply (four steps, four digits) is about 220


class Backend(Protocol):
    def answer(self, tasks: Sequence[Task], title: str) -> list[Reply]:
        """One greedy reply a task, in order."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; the same seed, tasks and batch size give the same replies."""

    temperature: float
    top_p: float = 1.0  # 1: the whole distribution
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= 100:
            raise Failure(
                f"temperature must be above 0 and at most 100; got {self.temperature}; "
                "leave sampling out for greedy replies"
            )
        if not 0 < self.top_p <= 1:
            raise Failure(f"top_p must be above 0 and at most 1; got {self.top_p}; try 0.95")


def split_reply(text: str) -> Reply:
    """Text after the generation prompt; without `</think>` all of it is thought."""
    thought, mark, answer = text.partition("</think>")
    return Reply(thought.strip(), answer.strip() if mark else "")


def generation_arguments(sampling: Sampling | None) -> dict[str, Any]:
    """Every value is given, so that none comes from the checkpoint's generation_config.json."""
    if sampling is None:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,  # off; None would mean the library's 50
    }


@contextmanager
def seeded(sampling: Sampling | None) -> Iterator[None]:
    """Whoever else draws random numbers is as if nothing had been sampled here."""
    if sampling is None:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(sampling.seed)
        yield


def rendered(tokenizer: PreTrainedTokenizerBase, tasks: Sequence[Task]) -> list[str]:
    """Each task's chat up to where the reply begins."""
    return [
        render_prompt(tokenizer, [(m["role"], m["content"]) for m in task.messages])
        for task in tasks
    ]


class LocalModel:
    """Batched generation with transformers, greedy unless a sampling is given."""

    def __init__(
        self, model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, *, rows: int = 256
    ) -> None:
        self.model, self.tokenizer, self.rows = model, tokenizer, rows

    @torch.inference_mode()
    def answer(
        self,
        tasks: Sequence[Task],
        title: str = "answering",
        *,
        sampling: Sampling | None = None,
        forced: str = "",
    ) -> list[Reply]:
        """`forced` is how every reply begins; the model writes on from there. It is encoded apart
        from the prompt, as a completion is in training, and is part of the reply."""
        was_training = self.model.training
        self.model.eval()
        prompts = rendered(self.tokenizer, tasks)
        # Tasks of one kind and length end together, so few rows of a batch wait for the last one.
        order = sorted(
            range(len(tasks)),
            key=lambda i: (tasks[i].kind, len(tasks[i].steps), len(prompts[i])),
        )
        replies: list[Reply | None] = [None] * len(prompts)
        progress = Progress(title, len(prompts), "prompts")
        with seeded(sampling):
            for start in range(0, len(order), self.rows):
                chosen = order[start : start + self.rows]
                texts = self._write([prompts[i] for i in chosen], sampling, forced)
                for i, text in zip(chosen, texts, strict=True):
                    replies[i] = split_reply(text)
                progress.advance(len(chosen))
        self.model.train(was_training)
        return [reply for reply in replies if reply is not None]

    def _write(self, prompts: Sequence[str], sampling: Sampling | None, forced: str) -> list[str]:
        """The text after each prompt, `forced` included."""
        encoded = self.tokenizer(
            list(prompts), add_special_tokens=False, padding=True, return_tensors="pt"
        )
        inputs, mask = encoded["input_ids"], encoded["attention_mask"]
        width = inputs.shape[1]
        if forced:  # prompts are padded on the left, so all of them end in the same column
            ids = torch.tensor(self.tokenizer(forced, add_special_tokens=False)["input_ids"])
            inputs = torch.cat([inputs, ids.expand(len(prompts), -1)], dim=1)
            mask = torch.nn.functional.pad(mask, (0, len(ids)), value=1)
        device = next(self.model.parameters()).device
        output = self.model.generate(
            input_ids=inputs.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=MAX_NEW_TOKENS,
            pad_token_id=self.tokenizer.pad_token_id,
            **generation_arguments(sampling),
        )
        return self.tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
