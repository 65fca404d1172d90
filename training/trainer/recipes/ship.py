"""An adapter of a job as it ships: PEFT's two files, a manifest, and a card with every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.publish.provenance import commit, commit_words
from trainer.publish.publish import publish
from trainer.recipes.mixes import Job, Mix
from trainer.recipes.report import measured_table, screening_table
from trainer.shared.failure import Failure
from trainer.shared.markdown import command_block, markdown_table, wrapped
from trainer.shared.versions import versions
from trainer.weights.lora_folder import adapter_digest

Row = Mapping[str, Any]
SOURCES = (
    "Harmful prompts of AdvBench (MIT), HarmBench (MIT), SimpleSafetyTests (CC-BY-4.0), HarmfulQA "
    "and CatQA (Apache-2.0), without those that repeat a prompt of StrongREJECT, XSTest or "
    "JailbreakBench. Everyday prompts of Self-Instruct's seeds (Apache-2.0), Dolly (CC-BY-SA-3.0), "
    "GSM8K (MIT) and MBPP (CC-BY-4.0). Look-alikes and their harmful twins are text of this "
    "project's templates. All answers to harmless prompts are the base's own, greedy."
)
JUDGE = (
    "An answer counts as refused by a rule over its beginning (`trainer/suites/rule_judge.py`); "
    "it cannot tell a harmful answer from an empty one. The prompts below were in no screening, so "
    "no recipe or strength was chosen on them. Brackets hold 95 % intervals (Wilson)."
)


@dataclass(frozen=True)
class Shipment:
    folder: Path
    checkpoint: Path
    job: Job
    strength: float
    base_name: str
    base_digest: str  # of the file that is served
    description: str
    command: str
    screened: Sequence[Row]  # of this job
    measured: Sequence[Row]  # of the base and of this adapter


def ship(shipment: Shipment) -> None:
    row = last_row(shipment)
    manifest = {
        "recommended_strength": shipment.strength,
        "description": shipment.description,
        "base_model": shipment.base_name,
        "base_digest": shipment.base_digest,
        "data": shipment.job.mix.words,
        "data_sha256": row["data_sha256"],
        "config": row["recipe"],
        "seed": shipment.job.seed,
        "commit": commit(),
        "versions": versions(),
        "epoch": row["epoch"],
        "minutes": round(row["train_seconds"] / 60, 1),
        "screened": [
            {k: r[k] for k in ("epoch", "strength", "refused")} for r in shipment.screened
        ],
        "measured": [
            {k: r[k] for k in ("subject", "strength", "set", "refused", "n")}
            for r in shipment.measured
        ],
    }
    digest = adapter_digest(shipment.checkpoint)
    publish(shipment.checkpoint, shipment.folder, manifest, card(shipment, manifest, digest))


def last_row(shipment: Shipment) -> Row:
    if not shipment.screened:
        raise Failure(
            f"--ship must name a job that was screened; got {shipment.job.name}; run it with --jobs"
        )
    return shipment.screened[-1]


def card(shipment: Shipment, manifest: Mapping[str, Any], digest: str) -> str:
    job = shipment.job
    provenance = [
        ["", ""],
        ["adapter digest, as the server names it", f"`{digest}`"],
        ["base", shipment.base_name],
        ["base digest (SHA-256)", f"`{shipment.base_digest}`"],
        ["data", job.mix.words],
        ["data hash (SHA-256)", f"`{manifest['data_sha256']}`"],
        ["seed", str(job.seed)],
        ["commit", commit_words(manifest["commit"])],
        ["versions", ", ".join(f"{k} {v}" for k, v in manifest["versions"].items())],
    ]
    parts = [
        f"---\nlibrary_name: peft\nbase_model: {shipment.base_name}\nlicense: apache-2.0\n---",
        f"# {shipment.folder.name}",
        shipment.description,
        f"{recipe_words(job)}; {manifest['minutes']} minutes on two shared CPU cores. Recommended "
        f"strength {shipment.strength:g}.",
        command_block(shipment.command),
        f"## Data\n\n{data_words(job.mix)} {SOURCES}",
        f"## Measured on unseen prompts\n\n{JUDGE}\n\n{measured_table(shipment.measured)}",
        "## Screened while it was made\n\nForty fixed prompts a set; ten tokens of each answer."
        f"\n\n{screening_table(shipment.screened)}",
        f"## Provenance\n\n{markdown_table(provenance)}",
    ]
    return wrapped("\n\n".join(parts) + "\n")


def recipe_words(job: Job) -> str:
    layers = "all layers" if job.layers == "all" else f"layers {job.layers}"
    start = {
        "random": "A from random numbers",
        "detector": "A solved for by least squares as a detector of harmful requests, and frozen",
        "warm": "A started as a least-squares detector of harmful requests",
    }[job.start]
    return (
        f"Rank 1 on `up_proj`, {layers}, alpha 16; {start}; AdamW {job.learning_rate:g}, linear "
        f"decay, batch {job.batch_size}, {job.epochs} epoch"
    )


def data_words(mix: Mix) -> str:
    return f"{mix.words}."
