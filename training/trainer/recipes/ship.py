"""An adapter of a job as it ships: PEFT's two files, a manifest, and a card with every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.publish.provenance import commit, provenance_rows
from trainer.publish.publish import publish
from trainer.recipes.mixes import Job
from trainer.recipes.report import measured_table, strengths_table
from trainer.shared.failure import Failure
from trainer.shared.interval import wilson
from trainer.shared.markdown import command_block, markdown_table, wrapped
from trainer.shared.versions import versions
from trainer.weights.lora_folder import adapter_digest

Row = Mapping[str, Any]
SOURCES = (
    "Refusals are of the sets that the configuration in the manifest names: AdvBench (MIT), "
    "HarmBench (MIT), SimpleSafetyTests (CC-BY-4.0), HarmfulQA and CatQA (Apache-2.0). Prompts "
    "that repeat one of StrongREJECT, XSTest or JailbreakBench are left out. Everyday prompts are "
    "of Self-Instruct's seeds (Apache-2.0), Dolly (CC-BY-SA-3.0), GSM8K (MIT) and MBPP "
    "(CC-BY-4.0). Look-alikes and their harmful twins are text of this project's templates. "
    "Answers to harmless prompts are the base's own, greedy."
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
    if not shipment.screened:
        raise Failure(
            f"--ship must name a job that was screened; got {shipment.job.name}; run it with --jobs"
        )
    last = max(shipment.screened, key=lambda row: row["epoch"])
    manifest = {
        "recommended_strength": shipment.strength,
        "description": shipment.description,
        "base_model": shipment.base_name,
        "base_digest": shipment.base_digest,
        "data": f"{shipment.job.mix.words}",
        "data_sha256": last["data_sha256"],
        "config": last["recipe"],
        "seed": shipment.job.seed,
        "commit": commit(),
        "versions": versions(),
        "epoch": last["epoch"],
        "minutes": round(last["train_seconds"] / 60, 1),
        "screened": [
            {key: row[key] for key in ("epoch", "strength", "refused")} for row in shipment.screened
        ],
        "measured": [
            {key: row[key] for key in ("subject", "strength", "set", "refused", "n")}
            for row in shipment.measured
        ],
        "results": results_of(shipment.measured),
    }
    digest = adapter_digest(shipment.checkpoint)
    page = card(shipment.folder.name, manifest, shipment.command, digest)
    publish(shipment.checkpoint, shipment.folder, manifest, page)


def results_of(measured: Sequence[Row]) -> dict[str, Any]:
    """In the form in which the server lists held-out results of every adapter."""
    results: dict[str, Any] = {}
    for row in measured:
        shares = results.setdefault(row["subject"], {"scorer": "rule", "shares": {}})["shares"]
        shares[f"{row['set']}_refused"] = asdict(wilson(row["refused"], row["n"]))
    return results


def card(name: str, manifest: Mapping[str, Any], command: str, digest: str) -> str:
    """All of it follows from the manifest, the command and the digest."""
    provenance = provenance_rows(manifest, digest, manifest["base_model"])
    parts = [
        f"---\nlibrary_name: peft\nbase_model: {manifest['base_model']}\nlicense: apache-2.0\n---",
        f"# {name}",
        manifest["description"],
        f"{recipe_words(manifest['config'])}; {manifest['minutes']} minutes on two shared CPU "
        f"cores. Recommended strength {manifest['recommended_strength']:g}.",
        command_block(command),
        f"## Data\n\nIn this adapter: {manifest['data']}. {SOURCES}",
        f"## Measured on unseen prompts\n\n{JUDGE}\n\n{measured_table(manifest['measured'])}",
        "## Screened while it was made\n\nShares refused of 40 fixed prompts a set, by the first "
        f"ten tokens of each answer.\n\n{strengths_table(manifest['screened'])}",
        f"## Provenance\n\n{markdown_table(provenance)}",
    ]
    return wrapped("\n\n".join(parts) + "\n")


def recipe_words(config: Mapping[str, Any]) -> str:
    layers = "all layers" if config["layers"] == "all" else f"layers {config['layers']}"
    start = {
        "random": "A from random numbers",
        "detector": "A solved for by least squares as a detector of harmful requests, and frozen",
        "warm": "A started as a least-squares detector of harmful requests",
    }[config["start"]]
    return (
        f"Rank 1 on `up_proj`, {layers}, alpha 16; {start}; AdamW {config['learning_rate']:g} with "
        f"linear decay, batch {config['batch_size']}, epochs {config['epochs']}"
    )
