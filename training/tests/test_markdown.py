"""Generated Markdown: what is wrapped, and what must stay as it is."""

import textwrap

import pytest

from trainer.shared.markdown import WIDTH, command_block, markdown_table, wrapped

LONG = "word " * 40


def test_a_paragraph_is_refilled_to_the_width_and_says_the_same_words():
    text = f"{LONG}\nshort\nlines\n\n{LONG}"
    found = wrapped(text)
    assert found.split() == text.split()
    assert found.count("\n\n") == 1
    assert max(map(len, found.splitlines())) <= WIDTH
    for paragraph in found.split("\n\n"):
        assert all(len(line) > WIDTH - len("short word ") for line in paragraph.splitlines()[:-1])


def test_a_list_item_goes_on_under_its_own_text():
    assert wrapped("- one two three\n- four five six\n  seven", width=12) == textwrap.dedent("""\
        - one two
          three
        - four five
          six seven""")
    assert wrapped("12. one two three", width=12) == "12. one two\n    three"


@pytest.mark.parametrize(
    "text",
    [
        f"# {LONG}",
        f"| {LONG} |\n| - |",
        f"```sh\n{LONG}\n\n- {LONG}\n```",
        f"text\n\n    {LONG}",
        f"---\ntitle: {LONG}\n---\n\ntext",
        f"[text](https://example.org/{'x' * WIDTH})",
    ],
    ids=["heading", "table", "fenced code", "indented code", "front matter", "link target"],
)
def test_what_is_no_prose_stays_as_it_is(text):
    assert wrapped(text) == text


@pytest.mark.parametrize("mark", ["-", "+", "*", "#", "2.", "3)", "---", "===", ">", "|"])
def test_no_line_begins_with_what_would_read_as_another_block(mark):
    found = wrapped(f"one two {mark} three four", width=8)
    assert not any(line.startswith(mark) for line in found.splitlines())
    assert found.split() == ["one", "two", mark, "three", "four"]


def test_a_short_piece_of_code_is_not_broken_and_a_hard_break_stays():
    assert wrapped("ask for `scorer: rule` here", width=16) == "ask for\n`scorer: rule`\nhere"
    assert wrapped("one  \ntwo\nthree") == "one  \ntwo three"


def test_wrapping_twice_changes_nothing():
    text = f"# Title\n\n{LONG}\n- {LONG}\n- b - c\n\n    code\n\n| a |\n| - |\n"
    assert wrapped(wrapped(text)) == wrapped(text)


def test_a_long_command_goes_on_after_a_backslash_at_a_flag():
    assert command_block("npm run x -- --n 1") == "```sh\nnpm run x -- --n 1\n```"
    command = "npm run x -- " + " ".join(f"--flag-{n} 'some value'" for n in range(9))
    lines = command_block(command).splitlines()[1:-1]
    assert len(lines) > 1 and max(map(len, lines)) <= WIDTH
    assert all(line.startswith("  --flag-") for line in lines[1:])
    assert " ".join(line.strip(" \\") for line in lines) == command


def test_a_table_is_padded_to_its_widest_cells():
    assert markdown_table([["a", "b"], ["long", "c"]]) == (
        "| a    | b |\n| ---- | - |\n| long | c |"
    )
