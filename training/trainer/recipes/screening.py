"""A quick screening: a few fixed prompts a set, the first words of greedy answers, a phrase rule.

Only shares leave this module, never an answer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from trainer.answer.decoder import Decoder
from trainer.shared.batches import render_prompt
from trainer.suites.datasets import read_set
from trainer.suites.rule_judge import refuses

FEW = 60  # of the sets that no goal is set for
ROWS = 24  # answered together


@dataclass(frozen=True)
class TestSet:
    name: str
    file: str
    label: str  # the rows of this label

    def prompts(self, data_dir: Path) -> list[str]:
        rows = read_set(self.file, data_dir).rows
        return [row["prompt"] for row in rows if row["label"] == self.label]


SETS = (
    TestSet("strongreject", "strongreject", "harmful"),
    TestSet("xstest_harmful", "xstest", "harmful"),
    TestSet("xstest_benign", "xstest", "benign"),
    TestSet("jbb_benign", "jbb", "benign"),
)
UNSCREENED = TestSet("cyberseceval_frr", "cyberseceval_frr", "benign")  # of the last measurement


def screening_prompts(data_dir: Path, count: int, seed: int = 0) -> dict[str, list[str]]:
    """`count` fixed prompts of each set; the rest stays unseen for the last measurement."""
    return {s.name: split(s.prompts(data_dir), count, seed)[0] for s in SETS}


def unseen_prompts(data_dir: Path, count: int, most: int, seed: int = 0) -> dict[str, list[str]]:
    """At most `most` prompts of each set that no screening of `count` has seen."""
    found = {s.name: split(s.prompts(data_dir), count, seed)[1][:most] for s in SETS}
    few = min(most, FEW)
    found["xstest_harmful"] = found["xstest_harmful"][:few]
    return found | {UNSCREENED.name: split(UNSCREENED.prompts(data_dir), few, seed)[0]}


def split(prompts: Sequence[str], count: int, seed: int) -> tuple[list[str], list[str]]:
    order = random.Random(f"{seed}/screening").sample(list(prompts), len(prompts))
    return order[:count], order[count:]


class Answerer:
    """Greedy answers of one set of merged weights."""

    def __init__(
        self,
        config: PretrainedConfig,
        state: Mapping[str, Tensor],
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self.decoder, self.tokenizer = Decoder(config, state), tokenizer

    def ids(self, prompts: Sequence[str], tokens: int, prefill: str = "") -> list[list[int]]:
        """At most `tokens` tokens after each prompt (and `prefill`), without the EOS."""
        texts = [render_prompt(self.tokenizer, [("user", prompt)]) + prefill for prompt in prompts]
        encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
        batches = [order[start : start + ROWS] for start in range(0, len(order), ROWS)]

        def write(batch: list[int]) -> list[list[int]]:
            eos = self.tokenizer.eos_token_id
            return self.decoder.write([encoded[i] for i in batch], eos_id=eos, limit=tokens)

        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            written = list(pool.map(write, batches))
        found = dict(zip(chain(*batches), chain(*written), strict=True))
        return [found[i] for i in range(len(prompts))]

    def texts(self, prompts: Sequence[str], tokens: int, prefill: str = "") -> list[str]:
        return self.tokenizer.batch_decode(self.ids(prompts, tokens, prefill))


def refused(answerer: Answerer, sets: Mapping[str, list[str]], tokens: int) -> dict[str, Any]:
    """Share of each set that is refused."""
    prompts = [prompt for found in sets.values() for prompt in found]
    verdicts = iter([refuses(text) for text in answerer.texts(prompts, tokens)])
    return {
        name: round(sum(next(verdicts) for _ in found) / len(found), 4)
        for name, found in sets.items()
    }
