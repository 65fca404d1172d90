"""The virtual environment that holds lm-eval and EvalPlus, made on first use of a suite that needs
one of them. The trainer's own environment stays as it is: both bring packages that the trainer has
in other versions. DUTYFREE_EVALUATE_PYTHON names an interpreter that has them already.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.shared.failure import Failure
from trainer.shared.progress import say
from trainer.shared.repository import ROOT

VARIABLE = "DUTYFREE_EVALUATE_PYTHON"
TRAINING = ROOT / "training"
PINS = TRAINING / "constraints-evaluate.txt"
VENV = TRAINING / ".evaluate" / ".venv"  # git and linters ignore folders of that name
MARKER = ".dutyfree-lock"
PROBE = "import importlib.metadata as m; print(m.version('lm-eval'), m.version('evalplus'))"
# What a script may see of this process's environment: no keys, no proxies.
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SystemRoot")


@dataclass(frozen=True)
class Tools:
    python: Path
    versions: Mapping[str, str]


def requirements(pyproject: Path = TRAINING / "pyproject.toml") -> tuple[str, ...]:
    """The extra `evaluate`. Installed without the trainer itself, so PyTorch does not follow."""
    table = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    return tuple(table["project"]["optional-dependencies"]["evaluate"])


def wanted_lock(needed: Sequence[str], pins: Path) -> str:
    return hashlib.sha256("\n".join(needed).encode() + b"\0" + pins.read_bytes()).hexdigest()


def find_tools() -> Tools:
    given = os.environ.get(VARIABLE)
    python = Path(given) if given else installed(VENV)
    probe = run_python(python, ["-c", PROBE])
    if probe.returncode != 0:
        raise Failure(
            f"{VARIABLE} must be a Python with {' and '.join(requirements())}; got "
            f"{python.name} without; install them, or unset it to have them installed"
        )
    lm_eval, evalplus = probe.stdout.split()
    return Tools(python, {"lm-eval": lm_eval, "evalplus": evalplus})


def installed(venv: Path) -> Path:
    """The interpreter of `venv`, with the pinned packages in it."""
    folder = venv / ("Scripts" if os.name == "nt" else "bin")
    python = folder / ("python.exe" if os.name == "nt" else "python")
    needed, marker = requirements(), venv / MARKER
    lock = wanted_lock(needed, PINS)
    if python.exists() and marker.exists() and marker.read_text() == lock:
        return python
    say(
        f"installing {' and '.join(needed)} into training/.evaluate (once; some minutes, "
        "1.2 GB; the trainer's own environment stays as it is)"
    )
    steps = [
        [sys.executable, "-m", "venv", str(venv)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "-c", str(PINS), *needed],
    ]  # fmt: skip
    for step in steps:
        if subprocess.run(step, check=False).returncode != 0:
            raise Failure(
                f"{' and '.join(needed)} must install; pip's message is above; check the "
                f"connection, or name a Python that has them with {VARIABLE}"
            )
    marker.write_text(lock)
    return python


def run_python(
    python: Path, arguments: Sequence[str], *, before: Sequence[str] = (), **more: Any
) -> subprocess.CompletedProcess[str]:
    """Isolated: neither this folder nor PYTHONPATH is on its path. `before` wraps the command."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environment = kept | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **more.pop("variables", {}),
    }
    try:
        return subprocess.run(
            [*before, str(python), "-I", *arguments],
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=more.pop("stderr", subprocess.DEVNULL),
            env=environment,
            **more,
        )
    except OSError as error:
        raise Failure(
            f"{VARIABLE} must be a Python interpreter; got {error.strerror} for {python.name}; "
            "unset it to have one made"
        ) from error


def run_script(
    tools: Tools,
    script: str,
    task: Mapping[str, Any],
    *,
    before: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Any:
    """A script of this folder: the task goes in as JSON on standard input, the result comes out as
    the last line of standard output. What it tells on standard error passes through."""
    path = Path(__file__).with_name(script)
    done = run_python(
        tools.python,
        [str(path)],
        before=before,
        variables=dict(variables or {}),
        stderr=subprocess.DEVNULL if quiet else None,
        input=json.dumps(task),
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise Failure(
            f"{script} must end well; got exit status {done.returncode}; its message is above; "
            "run the command again: what was answered is kept"
        )
    return json.loads(lines[-1])
