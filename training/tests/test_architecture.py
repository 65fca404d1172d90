"""Which room may import which: one rule a room, no circle, no file outside, no rule without use."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TRAINING = Path(__file__).resolve().parent.parent
# Room -> the rooms that its modules may import besides their own. A name with a dot is a folder in
# a folder; `flags`, `prompts`, `survey` and `cli` are files beside the rooms. The order is that of
# the floors: a rule names rooms that stand above it in this table.
ROOMS: dict[str, set[str]] = {
    "flags": set(),
    "shared": set(),
    "world": {"shared"},
    "weights": {"shared"},
    "fit": {"shared", "weights"},
    "answer": {"shared", "world", "weights", "fit"},
    "data": {"shared", "world", "answer"},
    "measure": {"shared", "world", "answer"},
    "publish": {"shared", "weights"},
    "prompts": {"flags", "world"},
    "suites.tasks": {"shared"},
    "suites.tools": {"shared"},
    "suites": {
        "flags", "shared", "weights", "answer", "publish", "suites.tasks", "suites.tools",
    },
    "live": {"flags", "shared", "world", "answer", "suites"},
    "survey": {"flags", "shared", "world", "answer", "measure", "suites", "live"},
    "make_models": {"flags", "shared", "world", "answer", "measure", "publish"},
    "train_adapter": {
        "flags", "shared", "world", "weights", "fit", "answer", "data", "measure", "publish",
    },
    "structure": {"shared", "weights", "publish"},
    "redteam": {"flags", "shared", "world", "weights", "answer", "measure", "publish"},
    "reproduce.numbers": {"shared"},
    "reproduce.jobs": {
        "shared", "world", "weights", "fit", "answer", "data", "measure", "reproduce.numbers",
    },
    "reproduce.findings": {"reproduce.numbers", "reproduce.jobs"},
    "reproduce.figures": {
        "shared", "reproduce.numbers", "reproduce.jobs", "reproduce.findings",
    },
    "reproduce.report": {
        "shared", "publish",
        "reproduce.numbers", "reproduce.jobs", "reproduce.findings", "reproduce.figures",
    },
    "reproduce": {
        "flags", "shared", "weights", "publish",
        "reproduce.numbers", "reproduce.jobs", "reproduce.findings", "reproduce.report",
    },
    "recipes": {
        "flags", "shared", "weights", "fit", "answer", "publish", "suites",
    },
    "guard": {"flags", "shared", "world", "weights", "fit", "data", "publish"},
    "cli": {
        "shared", "prompts", "survey", "make_models", "train_adapter", "structure", "redteam",
        "reproduce", "recipes", "guard",
    },
    "speed": {"shared", "fit", "publish"},
}  # fmt: skip


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of both packages."""
    found = {}
    for package in ("trainer", "speed"):
        for path in sorted((TRAINING / package).rglob("*.py")):
            parts = path.relative_to(TRAINING).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room_of(module: str) -> str:
    """The folder that holds it; a file directly in `trainer` is a room of its own."""
    parts = module.split(".")
    if parts[0] == "speed":
        return "speed"
    is_package = modules()[module].name == "__init__.py"
    folders = parts[1:] if is_package else parts[1:-1]
    if folders:
        return ".".join(folders)
    return parts[1] if module in ("trainer.flags", "trainer.prompts", "trainer.survey") else "cli"


def imported(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, wherever the import stands: inside functions and under
    `if TYPE_CHECKING` too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in modules() else node.module for name in members]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("trainer", "speed"))


@cache
def graph() -> dict[str, set[str]]:
    return {name: set(imported(path)) for name, path in modules().items()}


def room_imports() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, targets in graph().items():
        rooms = {room_of(target) for target in targets}
        found.setdefault(room_of(name), set()).update(rooms - {room_of(name)})
    return found


def test_every_import_is_of_a_module_that_is_there():
    for name, targets in graph().items():
        assert targets <= modules().keys(), f"{name} imports {targets - modules().keys()}"


def test_every_file_stands_in_a_room_of_the_table_and_every_room_holds_files():
    assert set(map(room_of, modules())) == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_its_rule_allows_and_its_rule_allows_no_more(room):
    assert room_imports()[room] == ROOMS[room]


def test_a_rule_names_rooms_of_lower_floors_only():
    floors = list(ROOMS)
    for room, allowed in ROOMS.items():
        for other in allowed:
            assert floors.index(other) < floors.index(room), f"{room} -> {other}"


def test_no_module_reaches_itself_through_its_imports():
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for target in sorted(graph()[module]):
                visit(target, (*way, module))
            done.add(module)

    for module in modules():
        visit(module, ())


def test_a_command_is_started_by_the_command_line_alone():
    commands = ROOMS["cli"] - {"shared"}
    for room, allowed in ROOMS.items():
        if room != "cli":
            assert not allowed & commands, f"{room} imports a command"
