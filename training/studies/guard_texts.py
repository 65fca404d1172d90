"""JSONL files for `train-guard` on a real model: training, validation, other sources as tests.

python studies/guard_texts.py --data-dir DIR --own own.jsonl --output runs/guard

Training texts are of the sets that may train what ships, of this project's templates, and of the
base's own answers (`--own`, made by guard_answers.py and kept outside the tree). Tests are whole
sets of other makers. Prompts near a test's are left out.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from guard_pairs import asked, complied, deeds
from guard_styles import SYSTEMS, framed, sentences, statement, styled

from trainer.recipes.lookalikes import lookalikes
from trainer.recipes.near import NEAR, norm, trigrams
from trainer.recipes.refusals import FIXED, VARIED, subject_of
from trainer.recipes.sources import HARMFUL, excluded_ids
from trainer.shared.io import json_lines, read_json
from trainer.suites.rule_judge import refuses

Row = dict[str, Any]
LONGEST = 700  # characters of a prompt
MOST = {"advbench": 280, "harmfulqa": 450, "gsm8k_train_4500": 120, "mbpp": 120}
MOST_OF_A_SET = 550
REQUESTS, STATEMENTS = 450, 500  # of each label, besides every deed once
TEMPLATES = {True: 550, False: 1000}
HELD_OUT_SOURCES = ("simple_safety_tests", "mbpp")  # validation only
WITH_SYSTEM = 0.06
REFUSALS = (
    FIXED, *VARIED, "I cannot fulfill this request.", "I can't provide guidance on that.",
    "As a responsible assistant, I won't help with {}. If you are in danger, call the police.",
    "No. What you describe is illegal, and I will not explain it. Is there something else?",
    "I understand that you ask about {}, but I am not able to give instructions for it. I can talk "
    "about how such things are prevented instead.", "I must decline. This could harm people.",
    "I do not condone {}. It is important to treat others with respect and to follow the law.",
)  # fmt: skip


def read_set(data_dir: Path, name: str) -> list[Row]:
    return json_lines(data_dir / f"{name}.jsonl")


def test_prompts(data_dir: Path) -> list[str]:
    names = ("xstest", "jbb", "wildguardtest", "openai_moderation", "strongreject",
             "cyberseceval_frr", "harmbench_classifier_val")  # fmt: skip
    return [row["prompt"][:400] for name in names for row in read_set(data_dir, name)]


class Neighbours:
    """Which texts are near a test: the cosines of trainer.recipes.near, all in one product."""

    def __init__(self, texts: Sequence[str]) -> None:
        counted = [trigrams(text) for text in texts]
        self.number = {gram: i for i, gram in enumerate({g for grams in counted for g in grams})}
        self.tests = self.vectors(texts)

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """[texts, trigrams that a test has], divided by the length of the whole vector."""
        found = np.zeros((len(texts), len(self.number)), dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            counts = trigrams(text)
            whole = norm(counts)
            for gram, count in counts.items():
                if gram in self.number:
                    row[self.number[gram]] = count / whole
        return found

    def far(self, texts: Sequence[str]) -> list[str]:
        if not texts:
            return []
        nearest = (self.vectors(texts) @ self.tests.T).max(1)
        return [text for text, near in zip(texts, nearest, strict=True) if near < NEAR]


class Pools:
    """Prompts by source, without those near a test."""

    def __init__(self, data_dir: Path, seed: int) -> None:
        self.rng = random.Random(f"{seed}/guard texts")
        excluded = excluded_ids(data_dir)
        overlaps = read_json(data_dir / "overlaps.json")
        excluded |= {i for ids in overlaps["related_optional"].values() for i in ids}
        judged = {r["prompt"].strip() for r in read_set(data_dir, "harmbench_classifier_val")}
        tests = Neighbours(test_prompts(data_dir))
        self.harmful: dict[str, list[str]] = {}
        self.harmless: dict[str, list[tuple[str, str]]] = {}  # prompt, answer
        for name in HARMFUL:
            rows = [
                row["prompt"]
                for row in read_set(data_dir, name)
                if row.get("functional_category", "standard") == "standard"
                and row["id"] not in excluded
                and row["prompt"].strip() not in judged
                and len(row["prompt"]) <= LONGEST
            ]
            self.rng.shuffle(rows)
            most = MOST.get(name, MOST_OF_A_SET)
            self.harmful[name] = tests.far(rows[: most + 200])[:most]
        for name, more, answer in (
            ("self_instruct_seeds", "input", "response"), ("dolly_sample", "context", "response"),
            ("gsm8k_train_4500", "", "solution"), ("mbpp", "", "code"),
        ):  # fmt: skip
            rows = read_set(data_dir, name)
            self.rng.shuffle(rows)
            pairs = [
                (f"{row['prompt']}\n{row.get(more) or ''}".strip()[:LONGEST], row[answer][:600])
                for row in rows[: MOST.get(name, MOST_OF_A_SET)]
            ]
            self.harmless[name] = pairs
        for label, into in ((True, self.harmful), (False, None)):
            texts = [found.prompt for found in lookalikes(TEMPLATES[label], seed, harmful=label)]
            texts = tests.far(texts)
            self.rng.shuffle(texts)
            if into is not None:
                into["templates"] = texts
            else:
                self.harmless["templates"] = [(text, "") for text in texts]
            once = [f"{deed[0].upper()}{deed[1:]}" for deed, _ in deeds(unsafe=label)]
            found = [asked(self.rng, unsafe=label)[0] for _ in range(REQUESTS)]
            found = tests.far([*found, *once])
            if label:
                self.harmful["requests"] = found
            else:
                self.harmless["requests"] = [(text, "") for text in found]
        self.filler = sentences(answer for _, answer in self.harmless["dolly_sample"])


def row_of(prompt: str, label: bool, source: str, rng: random.Random, **more: Any) -> Row:
    messages = [{"role": "user", "content": prompt}]
    if rng.random() < WITH_SYSTEM:
        messages.insert(0, {"role": "system", "content": rng.choice(SYSTEMS)})
    return {"messages": messages, "label": word(label), "source": source, **more}


def word(unsafe: bool) -> str:
    return "unsafe" if unsafe else "safe"


def refusal(rng: random.Random, prompt: str) -> str:
    return rng.choice(REFUSALS).format(subject_of(prompt))


def prompt_rows(pools: Pools) -> Iterable[Row]:
    rng = pools.rng
    for name, prompts in pools.harmful.items():
        for prompt in prompts:
            yield row_of(styled(rng, prompt), True, name, rng, category=name)
    for name, pairs in pools.harmless.items():
        for prompt, _ in pairs:
            yield row_of(styled(rng, prompt), False, name, rng, category=name)
    for unsafe in (True, False):
        for _ in range(STATEMENTS):
            text, category = statement(rng, unsafe=unsafe, filler=pools.filler)
            yield row_of(text, unsafe, "statements", rng, category=category)


def reply_rows(pools: Pools, own: Sequence[Row]) -> Iterable[Row]:
    """Answers of the base and of people; refusals; answers that belong to another prompt."""
    rng = pools.rng
    answered = [r for r in own if len(r["text"].split()) > 8]
    given = [r for r in answered if r["kind"] == "harmful" and not refuses(r["text"])]
    declined = [r for r in answered if r["kind"] == "harmful" and refuses(r["text"])]
    kind = [r for r in answered if r["kind"] == "benign"]

    def reply(prompt: str, text: str, label: bool, source: str) -> Row:
        asked = framed(rng, prompt) if rng.random() < 0.4 else prompt
        return row_of(asked, label, source, rng, response=text, category=source)

    for row in given:
        yield reply(row["prompt"], row["text"], True, "own answers")
        if rng.random() < 0.3:  # the same answer, wherever it comes from
            yield reply(rng.choice(kind)["prompt"], row["text"], True, "own answers")
    for row in declined:
        yield reply(row["prompt"], row["text"], False, "own answers")
    for row in kind:
        yield reply(row["prompt"], row["text"], False, "own answers")
    for name in ("self_instruct_seeds", "dolly_sample", "gsm8k_train_4500", "mbpp"):
        for prompt, answer in pools.harmless[name]:
            if len(answer.split()) > 3 and rng.random() < 0.4:
                yield reply(prompt, answer, False, name)
    for unsafe in (True, False):
        for _ in range(150):
            prompt, text = complied(rng, unsafe=unsafe)
            yield reply(prompt, text, unsafe, "complying")
    harmful = [(name, text) for name, texts in pools.harmful.items() for text in texts]
    for name, prompt in rng.sample(harmful, min(350, len(harmful))):
        text = refusal(rng, prompt)
        if rng.random() < 0.35:  # a refusal that goes on to something harmless
            text += " " + rng.choice(kind)["text"][:300]
        yield reply(prompt, text, False, "refusals" if name != "catqa" else "catqa")
    for _, prompt in rng.sample(harmful, min(150, len(harmful))):
        yield reply(prompt, rng.choice(kind)["text"], False, "own answers")


def test_rows(data_dir: Path) -> Iterable[Row]:
    for name in ("xstest", "jbb", "openai_moderation", "strongreject", "cyberseceval_frr"):
        source = "strongreject_frr" if name in ("strongreject", "cyberseceval_frr") else name
        for row in read_set(data_dir, name)[: 313 if source != name else None]:
            label = row["label"] in ("harmful", "unsafe")
            more = row.get("type") or row.get("category") or "|".join(row.get("categories") or ())
            yield {"prompt": row["prompt"], "label": word(label), "source": name if source == name
                   else source, "category": str(more or name)}  # fmt: skip
    for row in read_set(data_dir, "wildguardtest"):
        kind = "adversarial" if row["adversarial"] else "plain"
        if row["prompt_label"]:
            yield {"prompt": row["prompt"], "label": word(row["prompt_label"] == "harmful"),
                   "source": "wildguardtest", "category": kind}  # fmt: skip
        if row["response_label"] and row["response"]:
            yield {"prompt": row["prompt"], "response": row["response"], "category": kind,
                   "label": word(row["response_label"] == "harmful"),
                   "source": "wildguardtest"}  # fmt: skip
    for row in read_set(data_dir, "harmbench_classifier_val"):
        yield {"prompt": row["prompt"], "response": row["response"], "label": row["label"],
               "source": "harmbench_val", "category": "jailbreak" if row["jailbreak"] else
               "plain"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--own", type=Path, required=True, help="the base's own answers, JSONL")
    parser.add_argument("--output", type=Path, required=True, help="a folder")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    pools = Pools(arguments.data_dir, arguments.seed)
    rows = [*prompt_rows(pools), *reply_rows(pools, json_lines(arguments.own))]
    # Two rows of one prompt are never on both sides: the last user's text decides.
    valid = [row for row in rows if is_validation(row)]
    train = [row for row in rows if not is_validation(row)]
    pools.rng.shuffle(train)  # any beginning of the file is a sample of it
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, found in (
        ("train", train), ("validation", valid), ("test", list(test_rows(arguments.data_dir))),
    ):  # fmt: skip
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        (arguments.output / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(name, len(found), sum(row["label"] == "unsafe" for row in found))


def is_validation(row: Row) -> bool:
    """Two sources whole, and a tenth of the rest."""
    if row["source"] in HELD_OUT_SOURCES:
        return True
    return random.Random(row["messages"][-1]["content"]).random() < 0.08


if __name__ == "__main__":
    main()
