"""A mix made into training rows."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from trainer.recipes.lookalikes import lookalikes
from trainer.recipes.mixes import Mix
from trainer.recipes.near import NEAR, Neighbours
from trainer.recipes.own_answers import TOKENS, OwnAnswers
from trainer.recipes.refusals import WORDINGS
from trainer.recipes.screening import Answerer
from trainer.recipes.sources import harmful_prompts, ordinary_prompts, test_texts
from trainer.recipes.wrappers import BEGINNINGS, SCENES, TURN
from trainer.shared.batches import Encoded, Pair, encode_pairs, render_prompt
from trainer.shared.failure import Failure

SPARE = 1.3  # of the wanted count are asked for: near-duplicates and refusals of the base drop out


@dataclass(frozen=True)
class Examples:
    rows: list[Encoded]
    num_harmful: int  # of the rows, the first ones
    sha256: str  # over the token ids, in order
    read_harmful: list[Encoded]  # prompts alone, for a detector only
    read_harmless: list[Encoded]

    @property
    def read_sha256(self) -> str:
        return digest([*self.rows, *self.read_harmful, *self.read_harmless])


def examples_of(
    mix: Mix,
    data_dir: Path,
    tokenizer: PreTrainedTokenizerBase,
    own: OwnAnswers,
    base: Callable[[], Answerer],
    seed: int,
) -> Examples:
    tests = Neighbours(test_texts(data_dir))
    rng = random.Random(f"{seed}/wording")
    some = round(SPARE * mix.refusals)
    harmful = kept(
        [prompt.text for prompt in harmful_prompts(data_dir, seed, mix.sources)][:some], tests
    )
    twins = kept(lookalike_texts(mix.twins, seed, harmful=True), tests)
    similar = kept(lookalike_texts(mix.lookalikes, seed, harmful=False), tests)
    ordinary = [p.text for p in ordinary_prompts(data_dir, seed)][: round(SPARE * mix.ordinary)]
    asked = taken(harmful, mix.refusals, "refusals") + taken(twins, mix.twins, "twins")
    scenes = wrapped(rng.sample([*similar, *ordinary], mix.wrapped), rng)
    own.ask([*similar, *ordinary, *scenes], base)
    wording = WORDINGS[mix.wording]
    refused = [*asked, *wrapped(rng.sample(asked, mix.wrapped), rng)]
    pairs = [Pair((("user", prompt),), wording(prompt, rng)) for prompt in refused]
    rows = encode_pairs(tokenizer, pairs)
    rows += turned(tokenizer, rng.sample(asked, mix.begun), rng)
    num_harmful = len(rows)
    answered_scenes = [prompt for prompt in scenes if own.of(prompt)]
    for prompts, count, what in (
        (similar, mix.lookalikes, "look-alikes"), (ordinary, mix.ordinary, "everyday prompts"),
        (scenes, len(answered_scenes), "scenes"),
    ):  # fmt: skip
        answered = [prompt for prompt in prompts if own.of(prompt)]
        rows += [
            begun(tokenizer, prompt, own.of(prompt), mix.answer_tokens)
            for prompt in taken(answered, count, what)
        ]
    read = [
        [encoded_prompt(tokenizer, text) for text in texts]
        for texts in more_prompts(mix, data_dir, seed, tests)
    ]
    read[1] += [
        Encoded(row.prompt, []) for row in turned(tokenizer, rng.sample(similar, mix.begun), rng)
    ]
    return Examples(rows, num_harmful, digest(rows), *read)


def wrapped(prompts: Sequence[str], rng: random.Random) -> list[str]:
    return [rng.choice(SCENES).format(prompt) for prompt in prompts]


def turned(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], rng: random.Random
) -> list[Encoded]:
    """The prompt and the beginning of a compliant answer; what is learned is the turn."""

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    return [
        Encoded(
            encoded_prompt(tokenizer, prompt).prompt + ids(rng.choice(BEGINNINGS)),
            [*ids(TURN), tokenizer.eos_token_id],
        )
        for prompt in prompts
    ]


def more_prompts(
    mix: Mix, data_dir: Path, seed: int, tests: Neighbours
) -> tuple[list[str], list[str]]:
    """Harmful and harmless prompts behind those of the training rows, by the mix's own shares."""

    def behind(texts: Sequence[str], count: int) -> list[str]:
        first = round(SPARE * count)
        return kept(texts[first : first + round(mix.read_more * count)], tests)

    def similar(count: int, *, harmful: bool) -> list[str]:
        found = lookalikes(round((SPARE + mix.read_more) * count), seed, harmful=harmful)
        return behind([lookalike.prompt for lookalike in found], count)

    if not mix.read_more:
        return [], []
    sets = [prompt.text for prompt in harmful_prompts(data_dir, seed, mix.sources)]
    everyday = [prompt.text for prompt in ordinary_prompts(data_dir, seed)]
    harmful = behind(sets, mix.refusals) + similar(mix.twins, harmful=True)
    return harmful, similar(mix.lookalikes, harmful=False) + behind(everyday, mix.ordinary)


def encoded_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> Encoded:
    text = render_prompt(tokenizer, [("user", prompt)])
    return Encoded(tokenizer(text, add_special_tokens=False)["input_ids"], [])


def lookalike_texts(count: int, seed: int, *, harmful: bool) -> list[str]:
    found = lookalikes(round(SPARE * count), seed, harmful=harmful)
    return [lookalike.prompt for lookalike in found]


def kept(prompts: Sequence[str], tests: Neighbours) -> list[str]:
    """Those that are no near-duplicate of a test's prompt."""
    return [prompt for prompt in prompts if tests.nearest(prompt) < NEAR]


def taken(prompts: Sequence[str], count: int, what: str) -> list[str]:
    if len(prompts) < count:
        raise Failure(f"a mix may ask for at most {len(prompts)} {what}; got {count}; ask for less")
    return list(prompts[:count])


def begun(
    tokenizer: PreTrainedTokenizerBase, prompt: str, answer: Sequence[int], tokens: int
) -> Encoded:
    """The beginning of an answer; its end belongs to it only where all of it is there."""
    is_whole = len(answer) < min(TOKENS, tokens)
    end = [tokenizer.eos_token_id] if is_whole else []
    return Encoded(encoded_prompt(tokenizer, prompt).prompt, [*answer[:tokens], *end])


def digest(rows: Sequence[Encoded]) -> str:
    text = json.dumps([[row.prompt, row.completion] for row in rows])
    return hashlib.sha256(text.encode()).hexdigest()
