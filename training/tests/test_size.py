"""What keeps the code small: functions, files, folders; and no helper written twice."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TRAINING = Path(__file__).resolve().parent.parent
SOURCES = [
    path for name in ("trainer", "speed", "tests") for path in (TRAINING / name).rglob("*.py")
]
MOST_FUNCTION_LINES, MOST_FILE_LINES, MOST_FILES = 150, 400, 20
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def named(path: Path) -> str:
    return path.relative_to(TRAINING).as_posix()


def test_every_file_and_function_stays_within_its_lines():
    for path in SOURCES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_FILE_LINES, f"{named(path)} has {lines} lines"
        for function in functions(path):
            length = function.end_lineno - function.lineno + 1
            where = f"{named(path)}: {function.name} has {length} lines"
            assert length <= MOST_FUNCTION_LINES, where


def test_no_folder_directly_holds_more_than_twenty_source_files():
    counts: dict[Path, int] = defaultdict(int)
    for path in SOURCES:
        counts[path.parent] += path.name != "__init__.py"
    del counts[TRAINING / "tests"]
    assert {named(f): n for f, n in counts.items() if n > MOST_FILES} == {}


def test_no_two_functions_have_the_same_body():
    """A helper is written once. Docstrings and names do not count, nor do protocols' stubs."""
    owners: dict[str, list[str]] = defaultdict(list)
    for path in SOURCES:
        for function in functions(path):
            body = function.body
            if ast.get_docstring(function) is not None:
                body = body[1:]
            if body and ast.unparse(body[0]) != "...":
                key = "\n".join(ast.dump(node) for node in (function.args, *body))
                owners[key].append(f"{named(path)}:{function.name}")
    assert [names for names in owners.values() if len(names) > 1] == []
