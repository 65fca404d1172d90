"""Markdown as every generated page has it: padded tables, prose of at most 100 columns."""

from __future__ import annotations

import re
from collections.abc import Sequence

WIDTH = 100
ITEM = re.compile(r"(\s*)([-*+]|\d+[.)])\s+")
# A line that begins with one of these would no longer be the paragraph's next line.
BLOCK_MARK = re.compile(r"[-+*]|[-=]+|#{1,6}|>.*|\|.*|\d+[.)]|```.*|~~~.*")
SHORT_CODE = re.compile(r"`[^`]{1,40}`")  # stays on one line
NO_BREAK = "\0"
VERBATIM = re.compile(r" {0,3}(#{1,6} |\||<!--|---$)")


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """The first row is the header; columns are padded so that the text reads as a table too."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def command_block(command: str, width: int = WIDTH) -> str:
    """A shell command as fenced code; a long one goes on after a backslash, at its flags."""
    lines = [""]
    for word in re.split(r" (?=--\w)", command):
        if lines[-1] and len(lines[-1]) + len(word) + len("  \\") > width:
            lines[-1] += " \\"
            lines.append(f"  {word}")
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(["```sh", *lines, "```"])


def wrapped(text: str, width: int = WIDTH) -> str:
    """Paragraphs and list items refilled to `width`. Front matter, headings, tables and code stay
    as they are; a word longer than a line, such as a link's target, stands alone."""
    lines = text.split("\n")
    found: list[str] = []
    paragraph: list[str] = []
    fence = ""

    def flush() -> None:
        found.extend(filled(paragraph, width))
        paragraph.clear()

    for number, line in enumerate(lines):
        mark = re.match(r"\s*(```+|~~~+)", line)
        is_front_matter = lines[0] == "---" and number <= closing(lines)
        if fence or is_front_matter:
            found.append(line)
            if fence and mark and mark[1].startswith(fence):
                fence = ""
        elif mark:
            flush()
            fence = mark[1]
            found.append(line)
        elif not paragraph and line.startswith(" " * 4) and not ITEM.match(line):
            found.append(line)
        elif not line.strip() or VERBATIM.match(line):
            flush()
            found.append(line)
        else:
            if ITEM.match(line):
                flush()
            paragraph.append(line)
            if line.endswith("  "):
                flush()
    flush()
    return "\n".join(found)


def closing(lines: Sequence[str]) -> int:
    """The line that ends the front matter which the first line begins."""
    return next((n for n, line in enumerate(lines) if n and line == "---"), 0)


def filled(paragraph: Sequence[str], width: int) -> list[str]:
    """The lines of one paragraph or list item, joined and broken anew."""
    if not paragraph:
        return []
    first = ITEM.match(paragraph[0])
    margin = first[0] if first else re.match(r"\s*", paragraph[0])[0]
    indent = " " * len(margin)
    hard_break = "  " if paragraph[-1].endswith("  ") else ""
    text = " ".join(line.strip() for line in paragraph)[len(margin.lstrip()) :]
    words = SHORT_CODE.sub(lambda found: found[0].replace(" ", NO_BREAK), text).split(" ")
    lines = [margin]
    for word in joined([word for word in words if word]):
        is_fresh = len(lines[-1]) <= len(margin)
        if not is_fresh and len(lines[-1]) + 1 + len(word) > width - len(hard_break):
            lines.append(indent)
            is_fresh = True
        lines[-1] += word if is_fresh else f" {word}"
    lines[-1] += hard_break
    return [line.replace(NO_BREAK, " ") for line in lines]


def joined(words: Sequence[str]) -> list[str]:
    """Words that may each begin a line: one that would read as a block's mark stays with the word
    before it."""
    found: list[str] = []
    for word in words:
        if found and BLOCK_MARK.fullmatch(word):
            found[-1] += f" {word}"
        else:
            found.append(word)
    return found
