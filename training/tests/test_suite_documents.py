"""The documents that lm-eval is given, the mean over sets, and final answers as they are read."""

import json

import pytest

from trainer.shared.failure import Failure
from trainer.shared.interval import Difference, paired_difference
from trainer.suites.tasks.documents import SETS, hellaswag, task_file
from trainer.suites.tasks.final_answer import choice_answer, integer_answer, last_boxed
from trainer.suites.tasks.gpqa import gpqa_prompt, read_gpqa
from trainer.suites.tasks.pooled import mean_of_sets

BY_NAME = {one.name: one for one in SETS}
GPQA_HEAD = "Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,"
GPQA_HEAD += "Incorrect Answer 3\n"


def document(name, **row):
    return BY_NAME[name].document({"id": "x", **row})


def test_choices_are_worded_as_lm_eval_words_them():
    found = document("boolq", passage="Goats faint.", prompt="do goats faint", answer=True)
    assert found == {
        "id": "x",
        "query": "Goats faint.\nQuestion: do goats faint?\nAnswer:",
        "choices": ["no", "yes"],
        "gold": 1,
    }
    found = document(
        "copa",
        prompt="It was wrapped.",
        question="cause",
        choices=["It broke.", "I ran."],
        answer=0,
    )
    assert found["query"] == "It was wrapped because"
    assert found["choices"] == [" it broke.", " i ran."]
    found = document("piqa", prompt="To boil", choices=["a", "b"], answer=1)
    assert (found["query"], found["gold"]) == ("Question: To boil\nAnswer:", 1)


def test_a_caption_is_capitalised_and_a_how_to_loses_its_markers():
    row = {"id": "x", "activity": "Polo", "choices": ["rides [step] off."], "answer": 0}
    caption = hellaswag({**row, "prompt": "A man sits. He waits. then THE man"})
    assert caption["query"] == "Polo: A man sits. He waits. Then the man"
    assert caption["choices"] == ["rides off."]
    how_to = hellaswag({**row, "prompt": "[header] How to ride [title] Sit up. Hold on."})
    assert how_to["query"] == "Polo: How to ride. Sit up. Hold on."


def test_a_word_problem_keeps_its_solution_or_shows_its_number():
    solved = document("gsm8k", prompt="2 + 2?", solution="2+2=4\n#### 4", answer="4")
    assert solved["target"] == "2+2=4\n#### 4"
    assert document("svamp", prompt="2 + 2?", answer="4")["target"] == "#### 4"


def test_a_task_file_names_its_documents_and_what_lm_eval_counts():
    choice = task_file(BY_NAME["copa"], "copa.jsonl", "shots.jsonl", 64)
    assert choice["num_fewshot"] == 0 and choice["output_type"] == "multiple_choice"
    assert [m["metric"] for m in choice["metric_list"]] == ["acc"]
    made = task_file(BY_NAME["gsm8k"], "gsm8k.jsonl", "shots.jsonl", 64)
    assert made["dataset_kwargs"]["data_files"] == {"test": "gsm8k.jsonl", "train": "shots.jsonl"}
    assert made["fewshot_config"] == {"sampler": "first_n"} and made["num_fewshot"] == 5
    assert made["generation_kwargs"]["max_gen_toks"] == 64


def test_the_mean_over_sets_counts_a_set_once_and_keeps_a_width():
    sure, unsure = Difference(0.0, -0.01, 0.01), Difference(-0.1, -0.2, 0.1)
    mean = mean_of_sets([sure, unsure])
    assert mean.value == pytest.approx(-0.05)
    assert mean.low == pytest.approx(-0.05 - (0.01**2 + 0.1**2) ** 0.5 / 2)
    assert mean.high == pytest.approx(-0.05 + (0.01**2 + 0.2**2) ** 0.5 / 2)
    alike = mean_of_sets([paired_difference([True] * 50, [True] * 50)] * 4)
    assert alike.low < 0 == alike.value < alike.high
    with pytest.raises(ValueError, match="needs a set"):
        mean_of_sets([])


@pytest.mark.parametrize(
    "text, answer",
    [
        (r"so \boxed{204}.", 204),
        (r"\boxed{1} no, \boxed{073}", 73),
        (r"\boxed{\text{113}}", 113),
        (r"\boxed{ $45^\circ$ }", None),
        (r"\boxed{\frac{1}{2}}", None),
        (r"\boxed{12", None),
        ("the answer is 204", None),
    ],
)
def test_the_last_closed_box_holds_the_integer(text, answer):
    assert integer_answer(text) == answer


def test_a_box_may_hold_braces():
    assert last_boxed(r"\boxed{a{b}c} and \boxed{open") == "a{b}c"


@pytest.mark.parametrize(
    "text, answer",
    [
        (r"Final Answer: \boxed{C}", 2),
        (r"\boxed{\text{(B)}}", 1),
        (r"\boxed{\text{D) 10 m}}", 3),
        ("First (A) looks right.\nFinal Answer: B", 1),
        ("**Answer:** C", 2),
        ("The correct answer is (D).", 3),
        ("option B is correct", 1),
        ("Because it is so.\n\n(C)", 2),
        ("the answer is a matter of taste", None),
        (r"\boxed{E}", None),
        ("", None),
    ],
)
def test_a_choice_is_read_from_the_forms_that_models_use(text, answer):
    assert choice_answer(text, 4) == answer


def test_gpqa_is_read_from_its_authors_table_in_an_order_of_its_own(tmp_path):
    path = tmp_path / "gpqa_diamond.csv"
    lines = [f"rec{i},Why {i}?,right,wrong 1,wrong 2,wrong 3\n" for i in range(8)]
    path.write_text(GPQA_HEAD + "".join(lines), encoding="utf-8")
    sha256, rows = read_gpqa(path)
    assert len(sha256) == 64 and read_gpqa(path)[1] == rows
    assert all(row["choices"][row["answer"]] == "right" for row in rows)
    assert len({row["answer"] for row in rows}) > 1
    prompt = gpqa_prompt(rows[0])
    assert prompt.startswith("You are solving a multiple-choice question.")
    assert "Final Answer: \\boxed{X}" in prompt and f"(A) {rows[0]['choices'][0]}" in prompt


def test_gpqa_is_read_from_lines_too_and_other_columns_are_refused(tmp_path):
    path = tmp_path / "gpqa.jsonl"
    row = {"id": "q", "prompt": "Why?", "choices": ["a", "b", "c", "d"], "answer": 2}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (found,) = read_gpqa(path)[1]
    assert found["choices"][found["answer"]] == "c"
    path.write_text('{"prompt": "Why?"}\n', encoding="utf-8")
    with pytest.raises(Failure, match=r"a row of --gpqa must have Question, .* got prompt"):
        read_gpqa(path)
    with pytest.raises(Failure, match="No such file"):
        read_gpqa(tmp_path / "none.csv")
