r"""`--suite paper`: AIME 2024 and GPQA as the paper measures them (A.3): eight samples an item at
temperature 0.6 and top_p 0.95, up to 32,768 tokens; pass@1 is the mean share of right samples.

AIME is judged by the integer in the last \boxed{}. Where that holds none, `--judge URL` may ask a
model whether the answer is the right number, as the paper does for all of them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from trainer.answer.patience import Patience
from trainer.answer.served import Server
from trainer.shared.failure import Failure
from trainer.suites.answers import LineFile
from trainer.suites.asking import work_through
from trainer.suites.datasets import DataSet, LoadedSet, Row
from trainer.suites.items import Item
from trainer.suites.sampling import (
    Sampling,
    Whole,
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
from trainer.suites.tasks.final_answer import choice_answer, integer_answer
from trainer.suites.tasks.gpqa import gpqa_prompt, read_gpqa

SETS = ("aime24", "gpqa")
SAMPLES, MAX_TOKENS = 8, 32_768
AIME_PROMPT = """\
{problem}

Please reason step by step, and put your final answer within \\boxed{{}}."""
JUDGE_PROMPT = """\
A problem has the right answer {answer}. Below is the end of a solution. Does the solution give \
{answer} as its final answer? Reply with one word, YES or NO.

{text}"""
JUDGED_CHARACTERS = 4_000  # of the end of an answer
JUDGE_FILE, JUDGE_TOKENS = "answer-verdicts.jsonl", 8
JUDGE_NOTICE = "Local only: what a judge model said of models' answers."
COLUMNS = {
    "correct": "pass@1",
    "unread": "no answer read",
    "cut": "cut at the token limit",
}
EXPLANATION = """\
- **pass@1**: the mean over problems of the share of samples that are right.
- **no answer read**: the answer names no integer in its last box (AIME), or no choice (GPQA). It
  counts as wrong. **cut**: it reached the token limit. A cut thought has no answer.
- Brackets hold 95 % intervals: of several samples the bootstrap's over problems, of one Wilson's.
  A bootstrap interval has no width where all problems come out alike. AIME has 30 problems:
  differences of ten points are within its noise.
- GPQA's prompt is the paper's; each question's choices stand in a fixed order of its own. AIME's
  prompt is ours, for the paper prints none."""


def run(context: Context) -> Findings:
    sampling = sampling_of(context.flags, samples=SAMPLES, max_tokens=MAX_TOKENS)
    require_room(context, sampling)
    loaded = load(context)
    judge = AnswerJudge.of(context)
    items = {
        one.about.name: [
            item_of(one.about.name, row) for row in context.sample(one.rows, one.about.name)
        ]
        for one in loaded
    }
    measured = []
    try:
        for subject in context.subjects:
            for name, own in items.items():
                asked = ask_samples(context, subject, own, sampling)
                whole = whole_items(own, asked)
                outcomes, facts = read_answers(subject, name, whole, judge)
                measured.append(per_item(name, subject, whole, asked, outcomes, facts))
    finally:
        if judge:
            judge.lines.close()
    return Findings(
        measured=measured,
        data=loaded,
        settings=about(sampling),
        judge={"model": judge.about()} if judge else {},
        columns=COLUMNS,
        explanation=EXPLANATION,
        warnings=[*missing(context, loaded), *complaints(measured)],
        items=ids_of(items),
    )


def about(sampling: Sampling) -> dict[str, Any]:
    return {**sampling.about(), "system_prompt": "none; the chat template's default, if any"}


def load(context: Context) -> list[LoadedSet]:
    chosen = context.flags.sets or SETS
    if context.flags.sets and "gpqa" in chosen and not context.flags.gpqa:
        raise Failure(
            "the set gpqa needs its file, which is not among the test sets; got no --gpqa; name "
            "gpqa_diamond.csv of its authors, or take --sets aime24"
        )
    found = [context.read("aime24")] if "aime24" in chosen else []
    if "gpqa" in chosen and context.flags.gpqa:
        sha256, rows = read_gpqa(context.flags.gpqa)
        source = f"{context.flags.gpqa.name}, given with --gpqa; no published hash to check"
        gpqa = DataSet("gpqa", len(rows), "", "CC-BY-4.0, not to be passed on in plain text",
                       source, "reasoning: science questions, four choices")  # fmt: skip
        found.append(LoadedSet(gpqa, sha256, rows))
    return found


def missing(context: Context, loaded: Sequence[LoadedSet]) -> list[str]:
    names = [one.about.name for one in loaded]
    if "gpqa" in names or (context.flags.sets and "gpqa" not in context.flags.sets):
        return []
    return ["GPQA was not run: it is not among the test sets; give its file with --gpqa"]


def item_of(name: str, row: Row) -> Item:
    text = gpqa_prompt(row) if name == "gpqa" else AIME_PROMPT.format(problem=row["prompt"])
    return Item(name, row["id"], ({"role": "user", "content": text},), "", row)


def read_answers(
    subject: Subject, name: str, whole: Sequence[Whole], judge: AnswerJudge | None
) -> tuple[dict[str, list[bool]], dict[str, Any]]:
    pairs = [(entry.item.row, answer) for entry in whole for answer in entry.answers]
    if name == "gpqa":
        found = [choice_answer(answer.text, len(row["choices"])) for row, answer in pairs]
    else:
        found = [integer_answer(answer.text) for _, answer in pairs]
    correct = [one == int(row["answer"]) for one, (row, _) in zip(found, pairs, strict=True)]
    unread = [one is None for one in found]
    facts: dict[str, Any] = {}
    if judge and name == "aime24":
        asked = [i for i, (_, answer) in enumerate(pairs) if unread[i] and answer.text]
        verdicts = judge.verdicts(
            [(int(pairs[i][0]["answer"]), pairs[i][1].text) for i in asked],
            f"{subject.name}: judging {name}",
        )
        for i, verdict in zip(asked, verdicts, strict=True):
            correct[i] = bool(verdict)
        facts = {"judged_by_model": len(asked), "without_verdict": verdicts.count(None)}
    outcomes = {
        "correct": correct,
        "unread": unread,
        "cut": [answer.is_cut for _, answer in pairs],
    }
    return outcomes, facts


class AnswerJudge:
    """Asks a model, greedily, whether a solution's final answer is the right number."""

    def __init__(self, server: Server, model: str, lines: LineFile, concurrency: int) -> None:
        self.server, self.model, self.lines = server, model, lines
        self.concurrency = concurrency

    @classmethod
    def of(cls, context: Context) -> AnswerJudge | None:
        flags = context.flags
        if flags.judge == "rule":
            return None
        key = os.environ.get("DUTYFREE_JUDGE_KEY")
        server = Server(flags.judge, api_key=key, patience=Patience(flags.wait))
        server.wait()
        lines = LineFile(context.output / JUDGE_FILE, JUDGE_NOTICE)
        return cls(server, flags.judge_model or server.model(), lines, flags.concurrency)

    def about(self) -> dict[str, Any]:
        prompt = hashlib.sha256(JUDGE_PROMPT.encode()).hexdigest()
        return {"model": self.model, "prompt_sha256": prompt, "temperature": 0}

    def verdicts(self, pairs: Sequence[tuple[int, str]], title: str) -> list[bool | None]:
        """None where the judge's server failed or its reply is neither word."""
        prompts = [
            JUDGE_PROMPT.format(answer=answer, text=text[-JUDGED_CHARACTERS:])
            for answer, text in pairs
        ]
        keys = [
            hashlib.sha256(json.dumps([self.model, prompt]).encode()).hexdigest()
            for prompt in prompts
        ]
        left = [index for index, key in enumerate(keys) if self.lines.get(key) is None]

        def one(index: int) -> None:
            self.lines.put(keys[index], {"reply": self.ask(prompts[index])})

        work_through(one, left, title, total=len(pairs), at_once=self.concurrency)
        entries = [self.lines.get(key) for key in keys]
        return [verdict(str(entry["reply"])) if entry else None for entry in entries]

    def ask(self, prompt: str) -> str:
        reply = self.server.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": prompt}],
            temperature=0,
            max_tokens=JUDGE_TOKENS,
        )
        return reply.choices[0].message.content or ""


def verdict(text: str) -> bool | None:
    words = text.upper().replace(".", " ").replace("*", " ").split()
    return words[0] == "YES" if words and words[0] in ("YES", "NO") else None
