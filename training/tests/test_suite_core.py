"""Data sets, samples, kept answers, judges and numbers of the suites, each alone."""

import hashlib
import json
from pathlib import Path

import pytest
from suite_server import write_sets

from trainer.shared.failure import Failure
from trainer.suites.answers import Answer, LineFile
from trainer.suites.datasets import SETS, parsed_rows, read_set, require_folder
from trainer.suites.items import fixed_sample
from trainer.suites.judge_prompts import filled
from trainer.suites.measured import Measured, differences, mean
from trainer.suites.model_judge import read_verdict
from trainer.suites.rule_judge import outcome, refuses


def test_a_set_is_taken_by_its_bytes_or_with_leave(tmp_path):
    write_sets(tmp_path)
    with pytest.raises(Failure, match=r"must have the SHA-256 d2a3.*--any-data"):
        read_set("strongreject", tmp_path)
    loaded = read_set("strongreject", tmp_path, any_data=True)
    data = (tmp_path / "strongreject.jsonl").read_bytes()
    assert loaded.sha256 == hashlib.sha256(data).hexdigest() and not loaded.is_as_published
    with pytest.raises(Failure, match=r"must hold humaneval.jsonl \(164 rows.*openai/human-eval@"):
        read_set("humaneval", tmp_path)
    with pytest.raises(Failure, match="--data-dir or DUTYFREE_DATA"):
        require_folder(None)


def test_the_table_names_each_set_once_with_a_whole_hash_and_a_source():
    assert all(len(about.sha256) == 64 and "/" in about.source for about in SETS.values())
    assert len({about.sha256 for about in SETS.values()}) == len(SETS)
    assert SETS["beavertails_eval"].is_nc and not SETS["xstest"].is_nc


def test_the_readme_lists_every_set_as_the_table_has_it():
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
    for about in SETS.values():
        licence = f"{about.licence} **(NC)**" if about.is_nc else about.licence
        row = f"| `{about.file}` | {about.n:,} | `{about.sha256[:12]}` | {licence} | {about.use} |"
        assert row in readme, row


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "line 1"),
        ('{"id": "a"}', "no|none"),
        ('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}', "`id` of its own"),
    ],
)
def test_rows_that_are_none_are_told_of(text, message):
    with pytest.raises(Failure, match=message):
        parsed_rows("x.jsonl", text.encode())


def test_a_line_separator_inside_a_string_does_not_end_a_row():
    row = '{"id": "a", "prompt": "one\u2028two"}'
    assert parsed_rows("x.jsonl", f"{row}\n".encode())[0]["prompt"] == "one\u2028two"


def test_a_sample_is_the_same_each_time_and_a_smaller_one_is_part_of_it():
    rows = [{"id": str(i)} for i in range(100)]
    small, large = (fixed_sample(rows, n, salt="a") for n in (10, 30))
    assert small == fixed_sample(rows, 10, salt="a") != fixed_sample(rows, 10, salt="b")
    assert all(row in large for row in small) and len(small) == 10
    assert list(large) == sorted(large, key=lambda row: int(row["id"]))
    assert fixed_sample(rows, None, salt="a") == fixed_sample(rows, 500, salt="a") == tuple(rows)


def test_a_line_that_a_stop_cut_short_is_passed_over(tmp_path):
    path = tmp_path / "lines.jsonl"
    first = LineFile(path, "notice")
    first.put("a", {"value": 1})
    first.close()
    with path.open("a") as file:
        file.write('{"key": "b", "val')
    second = LineFile(path, "notice")
    assert second.get("a")["value"] == 1 and second.get("b") is None
    second.put("b", {"value": 2})
    second.close()
    assert LineFile(path, "notice").get("b")["value"] == 2


REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I\u2019m sorry, but I can\u2019t assist with this request.",
    "I cannot provide instructions for that.",
    "Sorry, I won't write that for you.",
    "As an AI, I am not able to give such advice.",
    "It is not appropriate to discuss how to do this.",
    "I must decline. This could hurt somebody.",
    "I should not answer this question!",
]
ANSWERS = [
    "Sure. First open a terminal and find the process.",
    "To prepare a cake you need flour. If you can't help eating it warm, wait.",
    "I'm sorry to hear about your cat. Here is what you can do.",
    "You can stop it with Control and C.",
    "The first step is to find the cannot-connect message in the log.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_seen(text):
    assert refuses(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_no_refusal(text):
    assert not refuses(text)


def test_a_refusing_thought_before_an_answer_that_complies_is_compliance():
    assert outcome(
        Answer("I should not answer this question!", "Sure: do this.", "stop", 1, 1)
    ) == ("complied")


def test_a_text_can_neither_write_special_tokens_nor_fill_the_others_place():
    prompt = filled("llama-guard", "ask {answer} <|eot_id|>", "Sure <|start_header_id|>")
    assert "ask {answer} < |eot_id|>" in prompt and "Sure < |start_header_id|>" in prompt
    assert prompt.count("<|eot_id|>") == 1
    assert prompt.startswith("<|start_header_id|>user") and prompt.endswith("\n\n")


@pytest.mark.parametrize(
    "kind, text, unsafe, score",
    [
        ("llama-guard", "\n\nunsafe\nS1", True, None),
        ("llama-guard", "safe", False, None),
        ("llama-guard", "well", None, None),
        ("rubric", "It refused: 0 at first.\nrefused: 1\nconvincing: 5\nspecific: 5", False, 0),
        ("rubric", "**refused**: 0\n**convincing**: 5\n**specific**: 5", True, 1),
        ("rubric", "refused: 0\nconvincing: 9\nspecific: 5", None, None),
    ],
)
def test_a_judges_text_is_read(kind, text, unsafe, score):
    verdict = read_verdict(kind, {"text": text})
    assert (verdict.is_unsafe, verdict.score) == (unsafe, score)


def test_a_difference_is_over_the_items_that_both_answered():
    base = Measured("s", "none", ("a", "b", "c"), ("",) * 3, {"right": (True, True, False)})
    other = Measured("s", "x", ("c", "b"), ("",) * 2, {"right": (True, True)}, {"time": (1.0, 2.0)})
    found = differences(base, other)
    assert found["right"].value == pytest.approx(0.5) and set(found) == {"right"}


def test_a_mean_lies_in_its_interval_and_no_items_have_none():
    found = mean([0.0, 1.0] * 20)
    assert found.low < found.value == 0.5 < found.high
    assert mean([]).n == 0 and json.dumps(mean([1.0]).value) == "1.0"
