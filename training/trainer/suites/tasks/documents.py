"""Rows of the utility sets as documents of lm-eval tasks, worded as lm-eval's own tasks of the same
names word theirs (0.4.13). A document holds its final text, so a task file needs no code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Document = dict[str, Any]

CONNECTORS = {"cause": "because", "effect": "therefore"}
SENTENCE_END = re.compile(r"(?<=[.!?]) ")
SHOTS = 5
# lm-eval's gsm8k: where a generation stops, and how its number is read.
STOPS = ("Question:", "</s>", "<|im_end|>")
STRICT = r"#### (\-?[0-9\.\,]+)"
FLEXIBLE = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
GENERATED_TOKENS = 256  # lm-eval's default


@dataclass(frozen=True)
class UtilitySet:
    name: str  # as lm-eval names the task; "svamp" is ours
    file: str
    document: Callable[[Row], Document]
    metrics: tuple[str, ...]  # lm-eval's for this task; the last one is what counts here

    @property
    def is_generated(self) -> bool:
        return self.metrics[0] == "exact_match"


def choice_document(row: Row, query: str, choices: Sequence[str], gold: int) -> Document:
    return {"id": row["id"], "query": query, "choices": list(choices), "gold": gold}


def boolq(row: Row) -> Document:
    query = f"{row['passage']}\nQuestion: {row['prompt']}?\nAnswer:"
    return choice_document(row, query, ("no", "yes"), int(row["answer"]))


def copa(row: Row) -> Document:
    """The premise without its full stop, then "because" or "therefore". As in lm-eval, a choice's
    own space follows the one that stands before every choice."""
    query = f"{row['prompt'].strip()[:-1]} {CONNECTORS[row['question']]}"
    choices = [f" {choice[0].lower()}{choice[1:]}" for choice in row["choices"]]
    return choice_document(row, query, choices, row["answer"])


def question(row: Row) -> Document:
    query = f"Question: {row['prompt']}\nAnswer:"
    return choice_document(row, query, row["choices"], row["answer"])


def hellaswag(row: Row) -> Document:
    query = without_markers(f"{row['activity']}: {capitalised_end(row['prompt'])}")
    return choice_document(
        row, query, [without_markers(choice) for choice in row["choices"]], row["answer"]
    )


def capitalised_end(context: str) -> str:
    """lm-eval capitalises the beginning of a sentence that the choices end, which upstream is a
    field of its own. Our rows hold both joined: it is what begins in lower case after the last
    sentence's end."""
    *whole, last = SENTENCE_END.split(context)
    if not whole or not last[:1].islower():
        return context
    return f"{context[: len(context) - len(last)]}{last.capitalize()}"


def without_markers(text: str) -> str:
    """WikiHow's brackets."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def word_problem(row: Row) -> Document:
    """`target` as GSM8K writes solutions; a set without solutions has the number alone."""
    target = row.get("solution") or f"#### {row['answer']}"
    return {"id": row["id"], "query": f"Question: {row['prompt']}\nAnswer:", "target": target}


SETS = (
    UtilitySet("boolq", "boolq", boolq, ("acc",)),
    UtilitySet("copa", "copa_test", copa, ("acc",)),
    UtilitySet("arc_easy", "arc_easy_test", question, ("acc", "acc_norm")),
    UtilitySet("hellaswag", "hellaswag_val_1k", hellaswag, ("acc", "acc_norm")),
    UtilitySet("piqa", "piqa_val_1k", question, ("acc", "acc_norm")),
    UtilitySet("gsm8k", "gsm8k_test", word_problem, ("exact_match",)),
    UtilitySet("svamp", "svamp", word_problem, ("exact_match",)),
)


def task_file(one: UtilitySet, documents: str, shots: str, max_tokens: int) -> dict[str, Any]:
    """A task of lm-eval as an object; YAML reads JSON. `documents` and `shots` are JSONL files."""
    common = {
        "task": one.name,
        "dataset_path": "json",
        "test_split": "test",
        "doc_to_text": "{{query}}",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in one.metrics
        ],
        "metadata": {"version": 1.0},
    }
    if not one.is_generated:
        return common | {
            "dataset_kwargs": {"data_files": {"test": documents}},
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "num_fewshot": 0,
        }
    return common | {
        "dataset_kwargs": {"data_files": {"test": documents, "train": shots}},
        "output_type": "generate_until",
        "doc_to_target": "{{target}}",
        "fewshot_split": "train",
        # The same shots for every item, so that an item's answer does not depend on the sample.
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": SHOTS,
        "generation_kwargs": {
            "until": list(STOPS),
            "do_sample": False,
            "temperature": 0.0,
            "max_gen_toks": max_tokens,
        },
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "ignore_punctuation": False,
                "regexes_to_ignore": [",", r"\$", "(?s).*#### ", r"\.$"],
            }
        ],
        "filter_list": [
            regex_filter("strict-match", STRICT, {}),
            regex_filter("flexible-extract", FLEXIBLE, {"group_select": -1}),
        ],
    }


def regex_filter(name: str, pattern: str, more: Mapping[str, Any]) -> dict[str, Any]:
    steps = [{"function": "regex", "regex_pattern": pattern, **more}, {"function": "take_first"}]
    return {"name": name, "filter": steps}
