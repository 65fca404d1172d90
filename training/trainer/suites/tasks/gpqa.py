"""GPQA from a file of the reader's own: its authors ask that it be not passed on in plain text.

Their CSV, or JSONL with their columns, or JSONL with `prompt`, `choices` and `answer` (an index).
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from io import StringIO
from pathlib import Path
from typing import Any

from trainer.shared.failure import Failure

COLUMNS = ("Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2",
           "Incorrect Answer 3")  # fmt: skip
LETTERS = "ABCD"
ORDER_SEED = 20251
# The paper's words (A.3).
PROMPT = """\
You are solving a multiple-choice question. At the end, present your final answer using the \
format: Final Answer: \\boxed{{X}}, where X is one of A, B, C, or D.

Question: {question}

Choices:
{choices}"""


def read_gpqa(path: Path) -> tuple[str, tuple[dict[str, Any], ...]]:
    """The file's SHA-256, and rows of `id`, `prompt`, `choices`, `answer`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Failure(
            f"--gpqa must be a file of GPQA's questions; got {error.strerror}: {path.name}; take "
            "gpqa_diamond.csv of its authors"
        ) from error
    text = data.decode("utf-8-sig")
    if path.suffix == ".csv":
        found: list[dict[str, Any]] = list(csv.DictReader(StringIO(text)))
    else:
        found = [json.loads(line) for line in text.split("\n") if line.strip()]
    if not found:
        raise Failure(f"--gpqa must hold questions; got none in {path.name}; take another file")
    return hashlib.sha256(data).hexdigest(), tuple(read_row(row, path.name) for row in found)


def read_row(row: dict[str, Any], file: str) -> dict[str, Any]:
    if all(name in row for name in COLUMNS):
        question, *choices = (str(row[name]).strip() for name in COLUMNS)
        answer = 0
    elif {"prompt", "choices", "answer"} <= row.keys() and len(row["choices"]) == len(LETTERS):
        question, choices, answer = row["prompt"], list(row["choices"]), int(row["answer"])
    else:
        raise Failure(
            f"a row of --gpqa must have {', '.join(COLUMNS)}, or prompt, four choices and answer; "
            f"got {', '.join(map(str, row))[:120]} in {file}; mend the file"
        )
    name = row.get("Record ID") or row.get("id")
    name = str(name or hashlib.sha256(question.encode()).hexdigest()[:16])
    # The right answer stands first in the CSV: each question has an order of its own, always same.
    order = random.Random(f"{ORDER_SEED} {name}").sample(range(len(choices)), len(choices))
    return {
        "id": name,
        "prompt": question,
        "choices": [choices[index] for index in order],
        "answer": order.index(answer),
    }


def gpqa_prompt(row: dict[str, Any]) -> str:
    lines = [f"({letter}) {choice}" for letter, choice in zip(LETTERS, row["choices"], strict=True)]
    return PROMPT.format(question=row["prompt"], choices="\n".join(lines))
