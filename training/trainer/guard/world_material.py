"""The embedded model's texts: generated training, validation and held-out sets."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from trainer.guard.marking import marked
from trainer.guard.material import Material, examples_sha256
from trainer.guard.world import exam_examples, world_examples

EXAM_SEED = 11


def world_material(
    tokenizer: PreTrainedTokenizerBase, *, texts: int, n: int, longest: int, seed: int
) -> Material:
    train = world_examples(texts, seed, "train")
    valid = world_examples(max(200, texts // 5), seed, "validation")
    return Material(
        train=marked(tokenizer, train, longest=longest, seed=seed),
        validation=marked(tokenizer, valid, longest=longest),
        test=marked(tokenizer, exam_examples(n, EXAM_SEED), longest=longest),
        words=f"{texts} generated conversations",
        sha256=examples_sha256(train),
    )
