"""Where code that a model wrote runs: as closed as this machine allows, and told as it is.

`unshare` (Linux) gives namespaces without privileges, where the kernel permits them. EvalPlus's own
limits of time and memory hold in any case; it also takes away calls that delete or start things.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.suites.tools.environment import Tools

# Every mount that can be is made read-only; /tmp is a fresh one in memory.
CLOSED = """\
set -e
mount -o remount,bind,ro /
while read -r _ place _; do
  case $place in
    /dev*|/proc*|/sys*) ;;
    *) mount -o remount,bind,ro "$place" 2>/dev/null || true ;;
  esac
done < /proc/self/mounts
mount -t tmpfs -o size=1g tmpfs /tmp
cd /tmp
exec "$@"
"""
PROBE = "import evalplus.eval"


@dataclass(frozen=True)
class Sandbox:
    words: str  # for the result
    before: Sequence[str]  # of the command
    is_closed: bool


LEVELS = (
    Sandbox(
        "no network, processes of its own, files read-only but /tmp (unshare)",
        ("unshare", "-rnmpf", "--kill-child", "sh", "-c", CLOSED, "sh"),
        True,
    ),
    Sandbox(
        "no network, processes of its own (unshare); files as this user's",
        ("unshare", "-rnpf", "--kill-child"),
        True,
    ),
    Sandbox("none: `unshare` is not allowed or not there; network and files are open", (), False),
)


def find_sandbox(tools: Tools) -> Sandbox:
    """The most closed one in which EvalPlus starts."""
    return next(level for level in LEVELS if not level.before or starts(tools, level))


def starts(tools: Tools, level: Sandbox) -> bool:
    probe = [*level.before, str(tools.python), "-I", "-c", PROBE]
    try:
        return subprocess.run(probe, check=False, capture_output=True).returncode == 0
    except OSError:
        return False
