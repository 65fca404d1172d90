"""`--suite code`: HumanEval+ and MBPP+, answered in chat, run and judged by EvalPlus.

As the paper (A.4) no words are put into the model's mouth: its answer begins where it begins, with
a thought if it has one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.suites.asking import Asked
from trainer.suites.datasets import Row
from trainer.suites.items import Item
from trainer.suites.measured import Measured
from trainer.suites.sampling import (
    ask_samples,
    complaints,
    ids_of,
    per_item,
    require_room,
    sampling_of,
    whole_items,
)
from trainer.suites.subjects import Subject
from trainer.suites.suite import Context, Findings
from trainer.suites.tools.environment import Tools, find_tools, run_script
from trainer.suites.tools.sandbox import Sandbox, find_sandbox

PROMPT = """\
Solve the following problem in Python. Give one self-contained script in a Markdown code block.

```python
{prompt}
```
"""
MAX_TOKENS = 768  # EvalPlus's default; a thought needs more
COLUMNS = {
    "base": "pass@1",
    "plus": "pass@1, extra tests too",
    "no_code": "no code",
    "cut": "cut at the token limit",
}
EXPLANATION = """\
- **pass@1**: the code passes the tests of the original set. **extra tests too**: and EvalPlus's.
  With more than one sample a problem counts the share of its samples that pass.
- **no code**: nothing in the answer that parses bears the function's name. **cut**: it reached the
  token limit.
- `humaneval` takes EvalPlus's reduced extra tests (Mini), `mbpp` its 378 tasks. EvalPlus 0.3.1
  passes no solution of HumanEval/32, the reference one included, so 163 of 164 is all.
- Brackets hold 95 % intervals: Wilson's, for a paired difference Newcombe's; of several samples the
  bootstrap's over problems, which has no width where all problems come out alike.
- Limits are of time too: a crowded machine fails code that is right.
- The prompt is ours, an instruction in the user's message; the answer begins with nothing given."""


@dataclass(frozen=True)
class CodeSet:
    name: str  # as EvalPlus names it
    file: str


SETS = (CodeSet("humaneval", "humaneval_plus_mini"), CodeSet("mbpp", "mbpp_plus"))


def run(context: Context) -> Findings:
    sets = [one for one in SETS if context.flags.sets is None or one.name in context.flags.sets]
    loaded = {one.name: context.read(one.file) for one in sets}
    tools = find_tools()
    sandbox = find_sandbox(tools)
    sampling = sampling_of(context.flags, samples=1, max_tokens=MAX_TOKENS)
    require_room(context, sampling)
    items = {
        one.name: [
            code_item(one.name, row) for row in context.sample(loaded[one.name].rows, one.file)
        ]
        for one in sets
    }
    measured: list[Measured] = []
    for subject in context.subjects:
        for one in sets:
            asked = ask_samples(context, subject, items[one.name], sampling)
            measured.append(judged(tools, sandbox, one, subject, items[one.name], asked))
    return Findings(
        measured=measured,
        data=tuple(loaded.values()),
        settings={
            "tools": f"evalplus {tools.versions['evalplus']}",
            "sandbox": sandbox.words,
            **sampling.about(),
        },
        judge={},
        columns=COLUMNS,
        explanation=EXPLANATION,
        warnings=[*open_sandbox(sandbox), *complaints(measured)],
        items=ids_of(items),
    )


def code_item(set_name: str, row: Row) -> Item:
    message = {"role": "user", "content": PROMPT.format(prompt=row["prompt"].strip())}
    return Item(set_name, row["id"], (message,), "", row)


def judged(
    tools: Tools,
    sandbox: Sandbox,
    one: CodeSet,
    subject: Subject,
    items: Sequence[Item],
    asked: Sequence[Asked],
) -> Measured:
    whole = whole_items(items, asked)
    answers = [(entry.item.id, answer) for entry in whole for answer in entry.answers]
    task = {
        "dataset": one.name,
        "problems": [entry.item.row for entry in whole],
        "samples": [{"id": name, "text": answer.text} for name, answer in answers],
        "parallel": max(1, (os.cpu_count() or 2) // 2),
    }
    statuses = run_script(tools, "grading.py", task, before=sandbox.before) if answers else []
    outcomes = {
        "base": [base == "pass" for base, _ in statuses],
        "plus": [base == plus == "pass" for base, plus in statuses],
        "no_code": [base == "no code" for base, _ in statuses],
        "cut": [answer.is_cut for _, answer in answers],
    }
    facts = {"timeouts": sum("timeout" in pair for pair in statuses)}
    return per_item(one.name, subject, whole, asked, outcomes, facts)


def open_sandbox(sandbox: Sandbox) -> list[str]:
    if sandbox.is_closed:
        return []
    return [
        "code that the model wrote ran with this user's rights, for `unshare` is not allowed here: "
        "run the suite in a container, or on a machine to spare"
    ]
