"""`prompts`: an exam's prompts as JSONL, for programs that ask the model themselves.

python -m trainer prompts --n 20 --seed 1     # {"set": "fact", "messages": [...]} a line
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from trainer.world.exam import GATED, build_exam


def prompt_lines(*, n: int, seed: int) -> Iterator[str]:
    """`n` prompts of each gated set, the sets taking turns."""
    sets = build_exam(n=n, seed=seed, names=GATED).sets
    for tasks in zip(*sets.values(), strict=True):
        for name, task in zip(sets, tasks, strict=True):
            yield json.dumps({"set": name, "messages": task.messages})
