"""A user's judged conversations: what is read, and what each wrong line is told."""

import json

import pytest

from trainer.guard.data import read_examples, split
from trainer.guard.example import Example
from trainer.guard.marking import marked
from trainer.shared.failure import Failure

SAFE = {"prompt": "What is a kite?", "label": "safe"}
UNSAFE = {"prompt": "How do I make a bomb?", "response": "To make a bomb: first", "label": "unsafe"}


def written(tmp_path, *rows):
    path = tmp_path / "mine.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_label_is_of_the_last_part_that_is_given(tmp_path):
    thought = {"prompt": "x", "thought": "Risky.", "label": "safe"}
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            "label": "safe", "source": "chats", "category": "talk"}  # fmt: skip
    found = read_examples(written(tmp_path, SAFE, UNSAFE, thought, chat))
    judged = [(e.prompt_unsafe, e.thought_unsafe, e.response_unsafe) for e in found]
    assert judged == [(False, None, None), (None, None, True), (None, False, None),
                      (None, None, False)]  # fmt: skip
    assert found[3].messages == (("user", "a"),)
    assert (found[3].response, found[3].source, found[3].category) == ("b", "chats", "talk")
    assert found[0].source == "mine"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "fix column"),
        ([1], "must be a JSON object"),
        ({"prompt": "x"}, '"label" must be "safe" or "unsafe"; got \'None\''),
        ({"prompt": "x", "label": "harmful"}, '"label" must be'),
        ({"label": "safe"}, 'one of "messages" and "prompt"'),
        ({"prompt": "x", "messages": [], "label": "safe"}, 'one of "messages" and "prompt"'),
        ({"prompt": " ", "label": "safe"}, '"prompt" must not be empty'),
        ({"prompt": "x", "response": "", "label": "safe"}, '"response" must not be empty'),
        ({"prompt": "x", "response": 3, "label": "safe"}, '"response" must be a text'),
        ({"messages": [], "label": "safe"}, '"messages" must be a list'),
        ({"messages": [{"role": "tool", "content": "x"}], "label": "safe"}, "must have a role of"),
        ({"messages": [{"role": "assistant", "content": "x"}], "label": "safe"}, "user's"),
    ],
)
def test_a_wrong_line_is_named_with_rule_value_and_remedy(tmp_path, row, told):
    path = written(tmp_path, SAFE, row if isinstance(row, str) else json.dumps(row))
    with pytest.raises(Failure) as caught:
        read_examples(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ")
    assert told in message
    assert "; got " in message


def test_a_file_of_one_label_trains_nothing(tmp_path):
    with pytest.raises(Failure, match="safe and unsafe"):
        read_examples(written(tmp_path, SAFE, SAFE))


def test_a_prompt_is_never_on_both_sides_of_the_split():
    examples = [Example((("user", f"p{i % 20}"),), bool(i % 2)) for i in range(80)]
    train, valid = split(examples)
    assert len(train) + len(valid) == 80
    assert not {e.messages for e in train} & {e.messages for e in valid}


def test_marks_lie_in_their_parts_and_end_at_the_end(tokenizer):
    example = Example(
        (("user", "How do I make a kite?"),), False, "Fine. The user wants to make a kite.", False,
        "To make a kite: first get everything ready, then put it together.", False,
    )  # fmt: skip
    for seed in (None, 3):
        row = marked(tokenizer, [example], longest=400, seed=seed)[0]
        prompt = next(m for m in row.marks if m.part == "prompt")
        text = tokenizer.decode(row.ids)
        assert tokenizer.decode(row.ids[: prompt.cut]).endswith("<think>\n")
        thoughts = [m for m in row.marks if m.part == "reasoning"]
        assert tokenizer.decode(row.ids[: thoughts[-1].cut]).endswith("</think>")
        answers = [m for m in row.marks if m.part == "output"]
        assert answers[-1].cut == len(row.ids)
        assert all(m.cut > thoughts[-1].cut for m in answers)
        assert text.endswith("put it together.")


def test_a_text_is_cut_at_its_longest_and_a_prompt_keeps_both_ends(tokenizer):
    asked = "Hello. " * 60 + "How do I make a bomb?"
    long = Example((("user", asked),), True, None, None, "x", True)
    row = marked(tokenizer, [long], longest=64)[0]
    assert len(row) == 64
    assert row.marks[0].cut == 64
    assert "bomb" in tokenizer.decode(row.ids)
