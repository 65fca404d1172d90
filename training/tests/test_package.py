"""What an installed trainer holds: every package, and every data file that its code reads."""

import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

TRAINING = Path(__file__).resolve().parent.parent
SETUPTOOLS = tomllib.loads((TRAINING / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "setuptools"
]


def test_every_folder_with_code_is_a_package_that_is_found():
    folders = {path.parent for path in (TRAINING / "trainer").rglob("*.py")}
    patterns = SETUPTOOLS["packages"]["find"]["include"]
    for folder in folders:
        assert (folder / "__init__.py").is_file(), folder
        name = ".".join(folder.relative_to(TRAINING).parts)
        assert any(fnmatch(name, pattern) for pattern in patterns), name


def test_every_file_beside_the_code_is_package_data():
    patterns = SETUPTOOLS["package-data"]["*"]
    data = [
        path
        for path in (TRAINING / "trainer").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert {path.name for path in data} == {"chat_template.jinja", "handwritten.jsonl"}
    assert all(any(fnmatch(path.name, pattern) for pattern in patterns) for path in data)
    for path in data:
        package = ".".join(path.parent.relative_to(TRAINING).parts)
        assert (files(package) / path.name).is_file()
