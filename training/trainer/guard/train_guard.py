"""`train-guard`: from a base and judged conversations to a certified guard folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer.fit.completion_loss import causal_model
from trainer.guard.card import guard_card
from trainer.guard.carrier import Carrier, carried
from trainer.guard.certify import Certified, calibrated, calibrated_parts, judged
from trainer.guard.example import Marked
from trainer.guard.fitting import adapted, fit_guard, source_weights
from trainer.guard.guard_folder import PROBE_TENSOR, publish_guard
from trainer.guard.guard_recipe import GuardRecipe
from trainer.guard.material import Material
from trainer.guard.probe import Probe, best_probe
from trainer.guard.reading import Read, read_texts
from trainer.guard.scores import auroc, calibration
from trainer.guard.verdict import Tokens
from trainer.publish.provenance import provenance
from trainer.shared.progress import Progress, say

PROBE_MARKS = 12_000  # at most so many places train the probe


@dataclass(frozen=True)
class Training:
    base: Path
    base_name: str
    model: nn.Module
    tokens: Tokens
    material: Material
    carriers: Sequence[Carrier]
    recipe: GuardRecipe
    dtype: torch.dtype
    output: Path
    description: str
    command: str


def train_guard(training: Training) -> dict[str, Any]:
    """Publishes the folder and returns its manifest."""
    started = time.monotonic()
    rows, recipe = training.material.train, training.recipe
    model = adapted(training.model, recipe, training.tokens, training.base_name)
    reads = read_by_carriers(model, rows, training.carriers, training.dtype)
    probe_at = np.random.default_rng(recipe.seed).permutation(len(rows))
    progress = Progress("training", len(rows) * recipe.epochs, "texts")
    kept = training.output.with_name(f".{training.output.name}.training.pt")
    fit_guard(
        model, rows, reads, training.tokens, recipe, saved=kept,
        after_epoch=lambda epoch, loss: say(f"epoch {epoch}: loss {loss:.4f}"),
        advance=progress.advance,
    )  # fmt: skip
    progress.close()

    valid, test = training.material.validation, training.material.test
    certified, probe, probed = [], None, {}
    for carrier in training.carriers:
        progress = Progress(f"judging on {carrier.name}", len(valid) + len(test), "texts")
        judge = {"tokens": training.tokens, "dtype": training.dtype, "advance": progress.advance}
        found, features = judged(model, valid, carrier, **judge)
        held_out, test_features = judged(model, test, carrier, **judge)
        progress.close()
        certified.append(Certified(carrier, calibrated(found), calibrated_parts(found), held_out))
        unsafe = np.array([v.unsafe for v in found])
        if probe is None:
            probe = fitted_probe(rows, reads, probe_at, features, unsafe)
            probed = calibrated_probe(probe, features, unsafe)
        logits = probe.logits(test_features)
        area = auroc(logits, np.array([v.unsafe for v in held_out]))
        probed["carriers"][carrier.name] = area and round(area, 4)
    manifest = manifest_of(training, certified, probe, probed, (time.monotonic() - started) / 60)
    card = guard_card(training.output.name, manifest, training.command)
    publish_guard(model, training.output, training.tokens, probe, manifest, card)
    kept.unlink(missing_ok=True)
    return manifest


def read_by_carriers(
    model: nn.Module, rows: Sequence[Marked], carriers: Sequence[Carrier], dtype: torch.dtype
) -> list[Read]:
    """The carriers take turns: each text is read by one of them, once."""
    found: list[Read | None] = [None] * len(rows)
    progress = Progress("reading", len(rows), "texts")
    for number, carrier in enumerate(carriers):
        mine = list(range(number, len(rows), len(carriers)))
        with carried(causal_model(model), carrier, dtype) as reader:
            reads = read_texts(
                reader, [rows[i] for i in mine], features=True, advance=progress.advance
            )
        for i, read in zip(mine, reads, strict=True):
            found[i] = read
    progress.close()
    return [read for read in found if read is not None]


def fitted_probe(
    rows: Sequence[Marked],
    reads: Sequence[Read],
    order: np.ndarray,
    valid: torch.Tensor,
    valid_unsafe: np.ndarray,
) -> Probe:
    weights = source_weights(rows)
    features, unsafe, shares = [], [], []
    for i in order:
        if len(unsafe) >= PROBE_MARKS:
            break
        features.append(reads[i].residual)
        unsafe += [mark.unsafe for mark in rows[i].marks]
        shares += weights[i]
    return best_probe(
        torch.cat(features), torch.tensor(unsafe), valid, torch.from_numpy(valid_unsafe),
        "residual", weights=torch.tensor(shares),
    )  # fmt: skip


def calibrated_probe(probe: Probe, features: torch.Tensor, unsafe: np.ndarray) -> dict[str, Any]:
    return {
        "layer": probe.layer,
        "site": probe.site,
        "tensor": PROBE_TENSOR,
        "bias": probe.bias,
        **calibration(probe.logits(features), unsafe).as_json(),
        "carriers": {},
    }


def manifest_of(
    training: Training,
    certified: Sequence[Certified],
    probe: Probe,
    probed: dict[str, Any],
    minutes: float,
) -> dict[str, Any]:
    base, tokens = certified[0], training.tokens
    reports = {c.carrier.name: c.report() for c in certified}
    first = reports[base.carrier.name]
    material = training.material
    return {
        "kind": "guard",
        "description": training.description,
        **provenance(
            base=training.base,
            data=material.words,
            data_sha256=material.sha256,
            config=asdict(training.recipe) | {"dtype": str(training.dtype).removeprefix("torch.")},
            seed=training.recipe.seed,
        ),
        "minutes": round(minutes, 1),
        "guard": {
            "token": tokens.guard,
            "labels": {"safe": tokens.safe, "unsafe": tokens.unsafe},
            **base.whole.as_json(),
            "carriers": [
                {
                    "name": c.carrier.name,
                    "adapters": c.carrier.as_manifest(),
                    **{k: reports[c.carrier.name]["all"][k] for k in ("auroc", "low", "high")},
                    **c.whole.as_json(),
                    "n": len(c.test),
                    "parts": {part: value.as_json() for part, value in c.parts.items()},
                }
                for c in certified
            ],
            "parts": {
                part: value.as_json()
                | {k: first["parts"].get(part, {}).get(k) for k in ("auroc", "n")}
                for part, value in base.parts.items()
            },
            "probe": probed | {"auroc": probed["carriers"][base.carrier.name]},
        },
        "num_texts": {
            "train": len(material.train),
            "validation": len(material.validation),
            "test": len(material.test),
        },
        "held_out": reports,
    }
