"""`orthomerge`: an adapter folder and its base become a new adapter folder with less overlap.

python -m trainer orthomerge --adapter adapters/safety-r1 --model models/tiny-reasoner \
    --output runs/safety-r1-ortho --mode both
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from trainer.publish.publish import check_output
from trainer.shared.device import check_device
from trainer.shared.failure import Failure
from trainer.shared.io import write_json
from trainer.shared.markdown import command_block, markdown_table, wrapped
from trainer.shared.progress import Progress
from trainer.shared.repository import logical_name
from trainer.shared.versions import versions
from trainer.shared.whole_folder import whole_folder
from trainer.weights.lora_folder import (
    CONFIG,
    TENSORS,
    LoraFolder,
    adapter_digest,
    check_base,
    read_lora,
)
from trainer.weights.orthomerge import PAPER_K, Mode, default_k, project
from trainer.weights.overlap import METRICS, NUM_VECTORS, Overlap, overlap
from trainer.weights.spectrum import Factors, product_norm, top_singular
from trainer.weights.tensor_store import TensorStore


@dataclass(frozen=True)
class OrthoOptions:
    adapter: Path
    model: Path
    output: Path
    mode: Mode
    k: int | None  # None: the paper's share of the base's width
    strength: float
    device: str
    command: str


@dataclass(frozen=True)
class Measured:
    """One module before projection (k None) or after it."""

    module: str
    k: int | None
    overlap: Overlap
    size: float  # ‖update‖, Frobenius


def run(options: OrthoOptions) -> None:
    check_output(options.output)
    check_device(options.device)
    if not 0 < options.strength < math.inf:
        raise Failure(f"--lambda must be above 0; got {options.strength:g}; the paper tries 1-1.75")
    adapter, base = read_lora(options.adapter), TensorStore(options.model)
    digest = check_base(adapter, base)
    k, compared = choose_k(options.k, adapter, base)
    tensors, measured = projected(adapter, base, options, k, compared)
    table = report(measured, options.mode, options.strength)
    manifest = manifest_of(adapter, options, digest, k, measured)
    with whole_folder(options.output) as partial:
        write_json(partial / CONFIG, dict(sorted(adapter.config.items())))
        save_file(tensors, partial / TENSORS, metadata={"format": "pt"})
        write_json(partial / "manifest.json", manifest)
        (partial / "README.md").write_text(card(options, manifest, table), encoding="utf-8")
    print(f"{table}\n\nsaved {options.output} (k {k})")


def choose_k(asked: int | None, adapter: LoraFolder, base: TensorStore) -> tuple[int, list[int]]:
    """The k to write with, and all that the report compares: that, the default, the paper's 64."""
    sides = [min(base.shape(f"{module}.weight")) for module in adapter.modules()]
    largest = min(sides) - 1  # one more would leave nothing of that module's update
    default = min(default_k(base.config["hidden_size"]), largest)
    k = default if asked is None else asked
    if not 0 <= k <= largest:
        raise Failure(
            f"--k must be between 0 and {largest} for the modules of this adapter; got {k}; "
            f"the paper's share of this base is {default}"
        )
    return k, sorted({k, default, min(PAPER_K, largest)})


def projected(
    adapter: LoraFolder, base: TensorStore, options: OrthoOptions, k: int, compared: Sequence[int]
) -> tuple[dict[str, torch.Tensor], list[Measured]]:
    tensors = dict(adapter.tensors)
    measured: list[Measured] = []
    modules = adapter.modules()
    progress = Progress("orthomerge", len(modules), "modules")
    for module in modules:
        weight = base.read(f"{module}.weight", options.device)
        top = top_singular(weight, min(max(*compared, NUM_VECTORS), *weight.shape))
        pair = adapter.factors(module)
        b, a = pair.b.to(options.device), pair.a.to(options.device)
        scaling, paper_top = adapter.scaling(module), top.first(NUM_VECTORS)
        for width in (None, *compared):
            new_b, new_a = b, a
            if width is not None:
                new_b, new_a = project(
                    b, a, top.first(width), options.mode, strength=options.strength
                )
            update = Factors(scaling * new_b.double(), new_a.double())
            found = overlap(weight, update, paper_top)
            measured.append(Measured(module, width, found, product_norm(update.b, update.a)))
            if width == k:
                tensors[adapter.key(module, "B")] = new_b.cpu().contiguous()
                tensors[adapter.key(module, "A")] = new_a.cpu().contiguous()
        progress.advance(note=module)
    progress.close()
    return tensors, measured


def mean_of(measured: Sequence[Measured], k: int | None) -> dict[str, float]:
    """Means over modules of each metric, and the size of the whole update."""
    chosen = [entry for entry in measured if entry.k == k]
    names = [field.name for field in fields(Overlap)]
    means = {
        name: sum(getattr(entry.overlap, name) for entry in chosen) / len(chosen) for name in names
    }
    return means | {"update_norm": sum(entry.size**2 for entry in chosen) ** 0.5}


def report(measured: Sequence[Measured], mode: Mode, strength: float) -> str:
    compared = list(dict.fromkeys(entry.k for entry in measured if entry.k is not None))
    columns = [mean_of(measured, k) for k in (None, *compared)]
    labels = METRICS | {"update_norm": "‖Δ‖ of all modules"}
    head = ["mean over modules", "before", *(f"{mode}, k={k}, λ={strength:g}" for k in compared)]
    rows = [[label, *(f"{c[name]:.4f}" for c in columns)] for name, label in labels.items()]
    return markdown_table([head, *rows])


def manifest_of(
    adapter: LoraFolder,
    options: OrthoOptions,
    base_digest: str,
    k: int,
    measured: Sequence[Measured],
) -> dict[str, Any]:
    """The source's strength and description stay true enough to keep; its results do not."""
    source = adapter.manifest
    name = options.adapter.resolve().name
    return {
        "recommended_strength": source.get("recommended_strength", 1.0),
        "description": f"{name} after OrthoMerge ({options.mode}, k {k}, λ {options.strength:g}). "
        + str(source.get("description") or ""),
        "base_model": logical_name(options.model),
        "base_digest": base_digest,
        "orthomerge": {
            "source": name,
            "source_digest": adapter_digest(options.adapter),
            "mode": options.mode,
            "k": k,
            "lambda": options.strength,
            "overlap_vectors": NUM_VECTORS,
            "before": mean_of(measured, None),
            "after": mean_of(measured, k),
            "modules": {entry.module: asdict(entry.overlap) for entry in measured if entry.k == k},
        },
        "source_manifest": {
            key: source[key]
            for key in ("data", "data_sha256", "seed", "epoch", "config", "commit")
            if key in source
        },
        "versions": versions(),
    }


def card(options: OrthoOptions, manifest: dict[str, Any], table: str) -> str:
    facts = manifest["orthomerge"]
    return wrapped(f"""---
library_name: peft
base_model: {manifest["base_model"]}
---

# {options.output.name}

{manifest["description"].strip()}

Made from `{facts["source"]}` (digest `{facts["source_digest"][:12]}`) without training: the update
leaves the {facts["k"]} largest singular directions of each weight. Rank and modules are the
source's. Not examined yet: the source's results do not hold for it, nor need its strength.

{command_block(options.command)}

Overlap with the base's weights, U and V their {NUM_VECTORS} largest singular vectors; the columns
compare widths k, the adapter holds k={facts["k"]}:

{table}
""")
