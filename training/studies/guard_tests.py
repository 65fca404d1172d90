"""Held-out texts of other makers, and what a study of guards chooses by: `test`, `choice`.

Nothing of them trains. Long prompts lose their middle, so that a processor can read them all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guard_texts import read_set

from trainer.guard.example import Example

Row = dict[str, Any]
MEAN = ("xstest", "jbb", "wildguardtest", "openai_moderation", "harmbench_val")
LONGEST = 700  # characters of a prompt


def shortened(text: str) -> str:
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"


def example(prompt: str, unsafe: bool, source: str, category: str, reply: str = "") -> Example:
    messages = (("user", shortened(prompt)),)
    if reply:
        return Example(messages, response=reply, response_unsafe=unsafe, category=category,
                       source=source)  # fmt: skip
    return Example(messages, prompt_unsafe=unsafe, category=category, source=source)


def some(rows: Sequence[Row], n: int, name: str) -> list[Row]:
    return random.Random(f"guard tests/{name}").sample(list(rows), min(n, len(rows)))


def tests(data_dir: Path) -> list[Example]:
    """Whole sets where they are small, else a sample that the seed fixes."""
    out: list[Example] = []
    for name, n in (("xstest", 450), ("jbb", 200)):
        for row in some(read_set(data_dir, name), n, name):
            kind = row.get("type") or row.get("category")
            out.append(example(row["prompt"], row["label"] == "harmful", name, kind))
    wild = read_set(data_dir, "wildguardtest")
    for row in some([r for r in wild if r["prompt_label"]], 400, "wildguardtest"):
        kind = "adversarial" if row["adversarial"] else "plain"
        out.append(example(row["prompt"], row["prompt_label"] == "harmful", "wildguardtest", kind))
    for row in some(read_set(data_dir, "openai_moderation"), 400, "openai_moderation"):
        kind = "|".join(row["categories"]) or "safe"
        out.append(example(row["prompt"], row["label"] == "unsafe", "openai_moderation", kind))
    for row in some(read_set(data_dir, "harmbench_classifier_val"), 200, "harmbench_val"):
        kind = "jailbreak" if row["jailbreak"] else "plain"
        unsafe = row["label"] == "unsafe"
        out.append(example(row["prompt"], unsafe, "harmbench_val", kind, row["response"]))
    for name, unsafe in (("strongreject", True), ("cyberseceval_frr", False)):
        for row in some(read_set(data_dir, name), 50, name):
            out.append(example(row["prompt"], unsafe, "strongreject beside code", name))
    answered = [r for r in wild if r["response_label"] and r["response"]]
    for row in some(answered, 120, "wildguardtest replies"):
        unsafe = row["response_label"] == "harmful"
        out.append(example(row["prompt"], unsafe, "wildguardtest replies", "", row["response"]))
    return out


def choice(data_dir: Path) -> list[Example]:
    """What chooses layer, decay and rank: sets of yet other makers, which may not train either."""
    out: list[Example] = []
    for row in read_set(data_dir, "physical_safety"):
        out.append(example(row["prompt"], row["label"] == "harmful", "physical_safety", ""))
    for name, unsafe, n in (
        ("do_not_answer", True, 120), ("malicious_instruct", True, 60),
        ("beavertails_eval", True, 120), ("alpaca_2k", False, 300),
    ):  # fmt: skip
        for row in some(read_set(data_dir, name), n, name):
            out.append(example(row["prompt"], unsafe, "others", name))
    return out
