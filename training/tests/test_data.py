"""What a user's file may hold, and the one line they get when it does not."""

import json

import pytest

from trainer.data import generated as data
from trainer.data.jsonl import read_jsonl
from trainer.shared.failure import Failure

GOOD = {"prompt": "How do I bake?", "completion": "thought\n</think>\n\nanswer"}


def write(tmp_path, *lines):
    path = tmp_path / "data.jsonl"
    path.write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )
    return path


def test_both_shapes_are_read_and_blank_lines_skipped(tmp_path):
    chat = {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a"},
        ]
    }
    pairs = read_jsonl(write(tmp_path, GOOD, "", chat))
    assert pairs[0].messages == (("user", "How do I bake?"),)
    assert pairs[1].messages == (("system", "s"), ("user", "u"))
    assert pairs[1].completion == "a"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("{not json", "each line must be a JSON object"),
        ("[1, 2]", "each line must be a JSON object"),
        ('{"prompt": "x"}', '"completion" must be a text'),
        ('{"prompt": 3, "completion": "x"}', '"prompt" must be a text'),
        ('{"prompt": " ", "completion": "x"}', '"prompt" must be a text'),
        ('{"messages": "x"}', '"messages" must be a list'),
        ('{"messages": [{"role": "user"}, 3]}', "a message must have a role"),
        (
            '{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}',
            "the last message must be the assistant's",
        ),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, rule):
    path = write(tmp_path, GOOD, GOOD, line)
    with pytest.raises(Failure) as caught:
        read_jsonl(path)
    assert str(caught.value).startswith(f"{path}:3: {rule}")
    assert "\n" not in str(caught.value)


def test_missing_empty_and_binary_files_are_named(tmp_path):
    with pytest.raises(Failure, match="which is not there"):
        read_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(Failure, match="at least one example"):
        read_jsonl(write(tmp_path, ""))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Failure, match="must be UTF-8"):
        read_jsonl(tmp_path / "binary")


def test_the_digest_follows_content_and_order(tmp_path):
    pairs = data.generated_refusals(5, seed=1)
    assert data.digest(pairs) == data.digest(data.generated_refusals(5, seed=1))
    assert data.digest(pairs) != data.digest(pairs[::-1])
