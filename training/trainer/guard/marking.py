"""Examples to token ids, with the places at which they are judged."""

from __future__ import annotations

import random
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from trainer.guard.example import Example, Mark, Marked, Part
from trainer.shared.batches import render_prompt

END = "</think>"
STOPS = (4, 8, 16, 32, 64, 128, 256)  # tokens of a part behind which it is judged when measured


def marked(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    longest: int,
    seed: int | None = None,
    most: int = 4,
) -> list[Marked]:
    """Every example, at most `longest` tokens of it. A seed: each reply is judged at `most` places
    drawn by it, its end among them. None: at STOPS and at the end, as reports do."""
    prompts = [render_prompt(tokenizer, example.messages) for example in examples]
    replies = [e.reply(p) for e, p in zip(examples, prompts, strict=True)]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    reply_ids = tokenizer(replies, add_special_tokens=False)["input_ids"]
    end = tokenizer(END, add_special_tokens=False)["input_ids"]
    rng = random.Random(f"{seed}/cuts")
    found = []
    for example, before, after in zip(examples, prompt_ids, reply_ids, strict=True):
        before = shortened(before, longest)
        after = after[: longest - len(before)]
        marks: list[Mark] = []
        if example.prompt_unsafe is not None:
            marks.append(Mark("prompt", len(before), len(before), example.prompt_unsafe))
        split = end_of_thought(after, end) if example.thought is not None else 0
        spans: tuple[tuple[Part, bool | None, int, int], ...] = (
            ("reasoning", example.thought_unsafe, 0, split),
            ("output", example.response_unsafe, split, len(after)),
        )
        for part, unsafe, start, stop in spans:
            if unsafe is not None:
                cuts = stops(stop - start, None if seed is None else rng, most)
                marks += [Mark(part, len(before) + start + n, n, unsafe) for n in cuts]
        found.append(Marked(example, before + after, tuple(marks)))
    return found


def shortened(ids: list[int], longest: int) -> list[int]:
    """A prompt that is too long loses its middle, as its beginning and end say what is asked."""
    if len(ids) <= longest:
        return ids
    head = longest // 2
    return ids[:head] + ids[len(ids) - (longest - head) :]


def stops(length: int, rng: random.Random | None, most: int) -> list[int]:
    if length < 1:
        return []
    if rng is None:
        return [*(stop for stop in STOPS if stop < length), length]
    drawn = rng.sample(range(1, length), min(most - 1, length - 1))
    return sorted({*drawn, length})


def end_of_thought(reply: Sequence[int], end: Sequence[int]) -> int:
    """How many tokens the thought has, with its closing mark; all where it is not closed."""
    width = len(end)
    for start in range(len(reply) - width + 1):
        if list(reply[start : start + width]) == list(end):
            return start + width
    return len(reply)
