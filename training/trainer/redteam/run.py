"""`redteam`: every attack on one adapter and on its base, in this process.

    python -m trainer redteam --adapter adapters/safety-r1

A row is saved as soon as it is measured; the same command goes on where it stopped.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, get_args

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from trainer.answer.backend import LocalModel
from trainer.measure.evaluate import SCORER, take_exam
from trainer.measure.strength import at_strength
from trainer.publish.provenance import OUTSIDE_GIT, commit
from trainer.redteam.attacks import Attack, Group, Subject, all_attacks
from trainer.redteam.direction import (
    Bases,
    ablated,
    random_like,
    read_directions,
    written_directions,
)
from trainer.redteam.rows import Row, RowFile, columns
from trainer.shared.failure import Failure
from trainer.shared.io import load_model, read_json
from trainer.shared.progress import Progress, say
from trainer.shared.repository import logical_name
from trainer.shared.versions import versions
from trainer.weights.base_digest import base_digest
from trainer.weights.lora_folder import adapter_digest
from trainer.world.exam import Exam, build_exam
from trainer.world.grammar import Reply, Task

SETS = ("word_problem", "fact", "benign", "harmful", "lookalike")
UNSEEN_SETS = ("unseen_word_problem", "unseen_benign", "unseen_harmful")
UNSEEN_SHARE = 5  # an exam holds a fifth of n in each unseen set
QUICK_N = 20
DIRECTION_PROMPTS = 64
DIRECTION_SEED = 3  # of the validation prompts that the written direction is measured on
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True)
class RedteamOptions:
    adapter: Path
    model: Path
    n: int
    seed: int
    output: Path
    groups: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Asked:
    """A local model asked in an attack's way, behind the `Backend` protocol."""

    local: LocalModel
    attack: Attack

    def answer(self, tasks: Sequence[Task], title: str = "answering") -> list[Reply]:
        attack = self.attack
        return self.local.answer(tasks, title, sampling=attack.sampling, forced=attack.forced)


def redteam(options: RedteamOptions) -> Path:
    """Returns the path of the report."""
    from trainer.redteam.report import write_report

    unknown = [name for name in options.groups if name not in GROUPS]
    if unknown or not options.groups:
        raise Failure(f"--groups must be among {', '.join(GROUPS)}; got {', '.join(unknown)!r}")
    model, tokenizer, manifest = load_adapted(options.adapter, options.model)
    strength = manifest.get("recommended_strength", 1.0)
    exams = {
        False: build_exam(n=options.n, seed=options.seed, names=SETS),
        True: build_exam(n=UNSEEN_SHARE * options.n, seed=options.seed, names=UNSEEN_SETS),
    }
    bases = {}
    if "direction" in options.groups:
        bases = ablation_bases(model, tokenizer, strength, options.seed)
    attacks = [
        attack
        for attack in all_attacks(options.seed)
        if attack.group in options.groups and (not attack.ablation or bases[attack.ablation])
    ]
    file = RowFile(
        options.output / "redteam.json", settings(options, strength), today(options.command)
    )
    planned = [(attack, subject) for attack in attacks for subject in attack.subjects]
    left = [(a, s) for a, s in planned if (a.key, s) not in file.rows]
    if file.is_resumed:
        say(f"{len(planned) - len(left)} of {len(planned)} rows were measured before: kept")

    prompts = [exams[attack.is_paraphrased].size for attack, _ in left]
    progress = Progress("redteam", sum(prompts), "prompts")
    local = LocalModel(model, tokenizer)
    for number, ((attack, subject), size) in enumerate(zip(left, prompts, strict=True), start=1):
        exam = exams[attack.is_paraphrased]
        row = measure(local, attack, subject, exam, strength, bases.get(attack.ablation, {}))
        file.add(row)
        progress.advance(size)
        say(f"row {number}/{len(left)} ({attack.title}, {subject}) in {row.seconds:.0f} s")
    progress.close()
    return write_report(options.output, attacks, file)


def measure(
    local: LocalModel,
    attack: Attack,
    subject: Subject,
    exam: Exam,
    recommended: float,
    bases: Bases,
) -> Row:
    started = monotonic()
    strength = recommended if attack.strength is None else attack.strength
    if subject == "base":
        strength = 0.0
    removal: AbstractContextManager[None] = ablated(bases) if bases else nullcontext()
    with at_strength(local.model, strength), removal:
        result = take_exam(Asked(local, attack), f"{attack.title}, {subject}", exam)
    shares = columns(result, is_paraphrased=attack.is_paraphrased)
    wrong = {name: examples[:1] for name, examples in result.wrong.items()}
    return Row(attack.key, subject, shares, round(monotonic() - started, 1), wrong)


def ablation_bases(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, strength: float, seed: int
) -> dict[str, Bases]:
    exam = build_exam(
        n=DIRECTION_PROMPTS, seed=DIRECTION_SEED, split="validation", names=("harmful",)
    )
    read = read_directions(model)
    written = written_directions(model, tokenizer, exam.sets["harmful"], strength or 1.0)
    return {
        "read": read,
        "read_random": random_like(read, seed),
        "written": written,
        "written_random": random_like(written, seed + 1),
    }


def load_adapted(
    adapter: Path, base: Path
) -> tuple[PeftModel, PreTrainedTokenizerBase, dict[str, Any]]:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / name).is_file():
            raise Failure(
                f"--adapter must be a PEFT folder with {name}; got {str(adapter)!r}, which has "
                "none; train one with `npm run train-adapter`"
            )
    model, tokenizer = load_model(base)
    manifest = read_manifest(adapter / "manifest.json")
    trained_on = manifest.get("base_digest")
    if trained_on is not None and trained_on != base_digest(base):
        raise Failure(
            f"an adapter must meet the base that it was trained on; got {str(base)!r}, whose "
            f"digest is not manifest.json's {str(trained_on)[:12]}…; pass its own with --model"
        )
    try:
        return PeftModel.from_pretrained(model, adapter), tokenizer, manifest
    except (RuntimeError, ValueError) as error:
        raise Failure(
            f"the adapter must fit {str(base)!r}; got {str(error).splitlines()[0][:200]}; "
            "pass its own base with --model"
        ) from error


def read_manifest(path: Path) -> dict[str, Any]:
    """Nothing where there is none: stock PEFT writes none."""
    if not path.is_file():
        return {}
    try:
        manifest = read_json(path)
    except ValueError as error:
        raise Failure(f"{path} must be JSON; got {error}; mend or remove it") from error
    strength = manifest.get("recommended_strength", 1.0) if isinstance(manifest, dict) else None
    if (
        isinstance(strength, bool)
        or not isinstance(strength, int | float)
        or not 0 <= strength <= 4
    ):
        raise Failure(
            f"{path} must be an object whose recommended_strength is between 0 and 4; "
            f"got {strength!r}; mend or remove it"
        )
    return manifest


def settings(options: RedteamOptions, strength: float) -> dict[str, Any]:
    """Rows measured with other settings are not mixed with these."""
    return {
        "adapter": logical_name(options.adapter),
        "adapter_digest": adapter_digest(options.adapter),
        "base": logical_name(options.model),
        "base_digest": base_digest(options.model),
        "strength": strength,
        "scorer": SCORER,
        "split": "test",
        "n": options.n,
        "seed": options.seed,
        "versions": versions(),
    }


def today(command: str) -> dict[str, str]:
    """What a figure must stand beside."""
    return {
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit() or OUTSIDE_GIT,
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()}), "
        f"{torch.get_num_threads()} of them used",
    }
