"""`--suite utility`: what a model is still good for, by lm-eval against the server.

Choices by their log-likelihood (echoed by `/v1/completions`), word problems by generation. The
prompts are those of lm-eval's own tasks: plain text, no chat template.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.shared.failure import Failure
from trainer.shared.interval import percent, points
from trainer.shared.io import write_json
from trainer.shared.markdown import markdown_table
from trainer.suites.datasets import LoadedSet
from trainer.suites.items import fixed_sample
from trainer.suites.measured import Measured, base_of, differences
from trainer.suites.subjects import BASE, Subject
from trainer.suites.suite import Context, Findings
from trainer.suites.tasks.documents import (
    GENERATED_TOKENS,
    SETS,
    SHOTS,
    UtilitySet,
    task_file,
    word_problem,
)
from trainer.suites.tasks.pooled import mean_of_sets
from trainer.suites.tools.environment import Tools, find_tools, run_script

FOLDER = "lm-eval"
SHOTS_SET = "gsm8k_train_4500"
# lm-eval's metric and filter -> ours, and its column.
MEASURES = {
    "acc,none": "acc",
    "acc_norm,none": "acc_norm",
    "exact_match,strict-match": "strict",
    "exact_match,flexible-extract": "flexible",
    "number": "number",
}
CORRECT = ("acc_norm", "acc", "number")  # the first that a set has
COLUMNS = {
    "correct": "correct",
    "acc": "acc",
    "acc_norm": "acc_norm",
    "strict": "strict match",
    "flexible": "flexible match",
}
EXPLANATION = f"""\
- **acc**: the choice of highest log-likelihood is the right one. **acc_norm**: the same after
  division by the choice's length in characters. **strict** and **flexible match**: the number after
  `####`, or the last number of the answer, equals the right one as text. All as lm-eval computes
  them.
- **correct** is acc_norm where lm-eval has it, else acc; for word problems the last number, as a
  number, so that 8.00 is 8.
- **The mean over sets** counts each set once, whatever its size: a set of 2,474 questions says no
  more about a model than one of 500. Its interval adds the sets' own intervals as squares.
- Brackets hold 95 % intervals: Wilson's, for a paired difference Newcombe's. They are about the
  draw of items.
- Prompts and metrics are those of lm-eval's tasks of these names, with no chat template. `svamp` is
  worded as `gsm8k`. The {SHOTS} shots are fixed ones of GSM8K's training set, where lm-eval draws
  new ones for each item.
- **BoolQ is balanced here**, half yes and half no. Upstream 62 % are yes: the numbers do not
  compare with published ones. HellaSwag and PIQA are samples; HellaSwag's has more captions of
  videos, and fewer how-to texts, than the whole."""


def run(context: Context) -> Findings:
    sets = [one for one in SETS if context.flags.sets is None or one.name in context.flags.sets]
    loaded = {one.name: context.read(one.file) for one in sets}
    shots = context.read(SHOTS_SET) if any(one.is_generated for one in sets) else None
    tools = find_tools()
    max_tokens = context.flags.max_tokens or GENERATED_TOKENS
    folder = (context.output / FOLDER).resolve()
    write_tasks(context, folder, sets, loaded, shots, max_tokens)
    measured: list[Measured] = []
    for subject in context.subjects:
        found = examine(context, tools, folder, subject, [one.name for one in sets])
        measured += [measure(one, subject, found) for one in sets]
    return Findings(
        measured=measured,
        data=(*loaded.values(), *([shots] if shots else [])),
        settings={
            "tools": ", ".join(f"{name} {version}" for name, version in tools.versions.items()),
            "max_tokens": max_tokens,
            "temperature": 0,
            "shots": f"{SHOTS} for word problems, else 0",
            "chat template": "none",
        },
        judge={},
        columns=COLUMNS,
        explanation=EXPLANATION,
        summary=summary(measured),
        totals=totals(measured),
    )


def write_tasks(
    context: Context,
    folder: Path,
    sets: Sequence[UtilitySet],
    loaded: Mapping[str, LoadedSet],
    shots: LoadedSet | None,
    max_tokens: int,
) -> None:
    """What lm-eval reads: documents as JSONL, and a task file for each set."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.yaml"):
        old.unlink()
    if shots is not None:
        rows = fixed_sample(shots.rows, SHOTS, salt="shots")
        write_lines(folder / "shots.jsonl", [word_problem(row) for row in rows])
    for one in sets:
        rows = context.sample(loaded[one.name].rows, one.file)
        documents = folder / f"{one.name}.jsonl"
        write_lines(documents, [one.document(row) for row in rows])
        task = task_file(one, str(documents), str(folder / "shots.jsonl"), max_tokens)
        write_json(folder / f"{one.name}.yaml", task)


def write_lines(path: Path, documents: Sequence[Mapping[str, Any]]) -> None:
    lines = [json.dumps(document, ensure_ascii=False) for document in documents]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def examine(
    context: Context, tools: Tools, folder: Path, subject: Subject, names: Sequence[str]
) -> Mapping[str, Any]:
    """lm-eval's answers are kept in a file of the subject's own, by base and attested adapter."""
    examiner = context.examiner
    same = hashlib.sha256(f"{examiner.fingerprint} {subject.applied}".encode()).hexdigest()
    cache = folder / f"answers-{same[:16]}"
    task = {
        "url": examiner.server.url,
        "model": examiner.model,
        "adapter": subject.name,
        "applied": subject.applied,
        "max_length": examiner.server.max_length(),
        "concurrency": examiner.concurrency,
        "timeout_s": context.flags.timeout,
        "tasks": str(folder),
        "names": list(names),
        "cache": str(cache),
    }
    variables = {"HF_HOME": str(folder / "cache"), "HOME": str(folder)}
    if context.flags.api_key:
        variables["DUTYFREE_API_KEY"] = context.flags.api_key
    return run_script(tools, "harness.py", task, variables=variables)


def measure(one: UtilitySet, subject: Subject, found: Mapping[str, Any]) -> Measured:
    items = found["items"][one.name]
    names = [name for key, name in MEASURES.items() if all(key in item for item in items.values())]
    keys = {name: key for key, name in MEASURES.items()}
    flags = {name: tuple(item[keys[name]] == 1 for item in items.values()) for name in names}
    for name, values in flags.items():
        share = found["totals"][one.name].get(keys[name])
        if share is not None and abs(share - sum(values) / len(values)) > 1e-9:
            raise Failure(
                f"lm-eval's items must make its total; got {share} for {one.name}, {name}, and "
                f"{sum(values)} of {len(values)} items; remove the folder {FOLDER} and run again"
            )
    correct = next(name for name in CORRECT if name in flags)
    return Measured(
        set=one.name,
        subject=subject.name,
        ids=tuple(items),
        categories=("",) * len(items),
        flags={"correct": flags[correct]} | {k: v for k, v in flags.items() if k in COLUMNS},
        facts={"correct_is": correct},
    )


def totals(measured: Sequence[Measured]) -> dict[str, Any]:
    """Subject -> the mean over sets of `correct`, and of its paired difference from the base."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(one.subject for one in measured):
        own = [one for one in measured if one.subject == name]
        gains = [
            differences(base, one)["correct"]
            for one in own
            if (base := base_of(measured, one, BASE)) is not None
        ]
        found[name] = {"correct": mean_of_sets([one.shares()["correct"] for one in own])}
        if gains:
            found[name]["difference_from_base"] = mean_of_sets(gains)
    return found


def summary(measured: Sequence[Measured]) -> str:
    num_sets = len({one.set for one in measured})
    rows = [["subject", f"correct, mean over {num_sets} sets", "points against the base"]]
    for name, found in totals(measured).items():
        gain = found.get("difference_from_base")
        rows.append([name, percent(found["correct"], end=""), points(gain) if gain else ""])
    return markdown_table(rows)
