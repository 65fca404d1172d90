"""The data sets that may train an adapter, read from --data-dir without what is evaluated on."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.recipes.near import normalised
from trainer.shared.failure import Failure
from trainer.suites.datasets import read_set

# Refusals may be trained on these, at most so many characters long; StrongREJECT, XSTest and JBB
# are tests. A short prompt is cheap: its tokens are most of an example.
HARMFUL = ("advbench", "harmbench", "simple_safety_tests", "harmfulqa", "catqa")
HARMFUL_SHARES = {
    "advbench": 0.35, "harmbench": 0.15, "simple_safety_tests": 0.1, "harmfulqa": 0.15,
    "catqa": 0.25,
}  # fmt: skip
BENIGN_SHARES = {
    "self_instruct_seeds": 0.35, "dolly_sample": 0.35, "mbpp": 0.2, "gsm8k_train_4500": 0.1,
}  # fmt: skip
TESTS = ("strongreject", "xstest", "jbb")
LONGEST = 130
EXCLUSIONS = ("exclude", "exclude_also_if_jbb_is_evaluated")
OVERLAPS = "overlaps.json"  # which rows of a training set repeat a row of a test
OVERLAPS_SHA256 = "0c5adea9567214670b2ff2b19914d575f861a70b7cbd6aeb22866bc2cdc3b1aa"


@dataclass(frozen=True)
class Prompt:
    id: str
    text: str


def excluded_ids(data_dir: Path) -> set[str]:
    """Failure: the file is not there, or its bytes are not the published ones."""
    path = data_dir / OVERLAPS
    data = path.read_bytes() if path.is_file() else b""
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != OVERLAPS_SHA256:
        raise Failure(
            f"--data-dir must hold {OVERLAPS} with the SHA-256 {OVERLAPS_SHA256}; got "
            f"{sha256 if data else 'no such file'}; take it from where the sets come from"
        )
    overlaps = json.loads(data)
    return {id for part in EXCLUSIONS for ids in overlaps[part].values() for id in ids}


def test_texts(data_dir: Path) -> list[str]:
    return [row["prompt"] for name in TESTS for row in read_set(name, data_dir).rows]


def harmful_prompts(data_dir: Path, seed: int, names: Sequence[str] = HARMFUL) -> list[Prompt]:
    """In an order whose every beginning has about HARMFUL_SHARES; no two alike. Those near a test
    are for the caller to leave out."""
    rng = random.Random(f"{seed}/harmful")
    excluded = excluded_ids(data_dir)
    pools = {}
    for name in names:
        rows = [
            Prompt(row["id"], row["prompt"])
            for row in read_set(name, data_dir).rows
            if row.get("functional_category", "standard") == "standard"
            and row["id"] not in excluded
            and len(row["prompt"]) <= LONGEST
        ]
        rng.shuffle(rows)
        pools[name] = rows
    return without_repeats(dealt(pools, HARMFUL_SHARES))


def ordinary_prompts(data_dir: Path, seed: int) -> list[Prompt]:
    """Everyday instructions, questions, sums and programs, mixed by BENIGN_SHARES."""
    rng = random.Random(f"{seed}/ordinary")
    pools = {}
    for name in BENIGN_SHARES:
        rows = [
            Prompt(row["id"], row["prompt"])
            for row in read_set(name, data_dir).rows
            if not row.get("input") and not row.get("context") and len(row["prompt"]) <= LONGEST
        ]
        rng.shuffle(rows)
        pools[name] = rows
    return without_repeats(dealt(pools, BENIGN_SHARES))


def dealt(pools: dict[str, list[Prompt]], shares: dict[str, float]) -> list[Prompt]:
    """From the pool that lags most behind its share, until all are empty."""
    taken = dict.fromkeys(pools, 0)
    out: list[Prompt] = []
    while left := [name for name in pools if taken[name] < len(pools[name])]:
        name = min(left, key=lambda name: (taken[name] + 1) / shares[name])
        out.append(pools[name][taken[name]])
        taken[name] += 1
    return out


def without_repeats(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first of each wording."""
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        first.setdefault(normalised(prompt.text), prompt)
    return list(first.values())
