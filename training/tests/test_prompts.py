"""The prompts that other programs ask."""

from __future__ import annotations

import json

from trainer.prompts import prompt_lines
from trainer.world.exam import GATED, build_exam


def test_the_sets_take_turns_and_hold_the_exam_s_prompts() -> None:
    lines = [json.loads(line) for line in prompt_lines(n=3, seed=5)]
    assert [line["set"] for line in lines] == list(GATED) * 3
    asked = [line["messages"] for line in lines if line["set"] == "fact"]
    exam = build_exam(n=3, seed=5, names=("fact",))
    assert asked == [task.messages for task in exam.sets["fact"]]
