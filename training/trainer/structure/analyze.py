"""`analyze`: stable rank and overlap of updates, per layer and module, tensor by tensor.

python -m trainer analyze --model models/tiny-reasoner --adapter adapters/safety-r1 \
    --output runs/analysis
Linear weights of the layers only: embeddings, norms and biases are not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from trainer.shared.device import check_device
from trainer.shared.failure import Failure
from trainer.shared.progress import Progress
from trainer.shared.repository import logical_name
from trainer.shared.versions import versions
from trainer.shared.whole_folder import whole_folder
from trainer.structure.analysis_report import write_report
from trainer.weights.base_digest import base_digest
from trainer.weights.lora_folder import LoraFolder, check_base, read_lora
from trainer.weights.overlap import Row, overlap
from trainer.weights.spectrum import Factors, stable_rank, top_singular
from trainer.weights.tensor_store import TensorStore

RESULT = "analysis.json"


@dataclass(frozen=True)
class AnalyzeOptions:
    model: Path
    subjects: tuple[tuple[str, Path], ...]  # ("adapter" or "tuned", folder) in the given order
    output: Path
    k: int
    device: str
    command: str


@dataclass(frozen=True)
class Subject:
    name: str
    source: LoraFolder | TensorStore


def update_of(
    subject: Subject, name: str, weight: torch.Tensor, device: str
) -> torch.Tensor | Factors | None:
    """None: this subject does not change that weight."""
    if isinstance(subject.source, LoraFolder):
        module = name.removesuffix(".weight")
        if subject.source.key(module, "A") not in subject.source.tensors:
            return None
        pair = subject.source.update(module)
        return Factors(pair.b.to(device), pair.a.to(device)) if pair.b.any() else None
    # The difference of two bfloat16 numbers is exact in float32.
    delta = subject.source.read(name, device).float() - weight.float()
    return delta if delta.any() else None


def analyzed(
    base: TensorStore, subjects: Sequence[Subject], k: int, device: str = "cpu"
) -> list[Row]:
    rows: list[Row] = []
    modules = base.linear_modules()
    progress = Progress("analyze", len(modules), "weights")
    for layer, module, name in modules:
        weight = base.read(name, device)
        top = None  # found once a weight, and only where something changed it
        for subject in subjects:
            delta = update_of(subject, name, weight, device)
            if delta is None:
                continue
            top = top or top_singular(weight, min(k, *weight.shape))
            found = overlap(weight, delta, top)
            rows.append(Row(subject.name, layer, module, *weight.shape, stable_rank(delta), found))
        progress.advance(note=f"layer {layer} {module}")
    progress.close()
    return rows


def read_subjects(options: AnalyzeOptions, base: TensorStore) -> list[Subject]:
    subjects: list[Subject] = []
    for kind, folder in options.subjects:
        if kind == "adapter":
            source: LoraFolder | TensorStore = read_lora(folder)
            check_base(source, base)
        else:
            source = TensorStore(folder)
            check_same_shapes(source, base)
        name, count = folder.resolve().name, 1
        while any(name == other.name for other in subjects):
            count += 1
            name = f"{folder.resolve().name} ({count})"
        subjects.append(Subject(name, source))
    return subjects


def check_same_shapes(tuned: TensorStore, base: TensorStore) -> None:
    for _, _, name in base.linear_modules():
        got = tuned.shape(name) if name in tuned.file_of else None
        if got != base.shape(name):
            raise Failure(
                f"--tuned must be this base, fine-tuned; {name} is {list(base.shape(name))} in the "
                f"base and {'missing' if got is None else list(got)} in {str(tuned.folder)!r}"
            )


def run(options: AnalyzeOptions) -> None:
    check_device(options.device)
    if not options.subjects:
        raise Failure("analyze needs at least one --adapter or --tuned folder; got none")
    if options.k < 1:
        raise Failure(f"--k must be 1 or more singular vectors; got {options.k}; the paper has 16")
    folder = options.output
    if folder.exists() and not (folder / RESULT).is_file():
        raise Failure(
            f"--output must be new or an analysis folder; got {str(folder)!r}, which holds "
            "something else; choose another name"
        )
    base = TensorStore(options.model)
    if not base.linear_modules():
        raise Failure(
            f"{options.model}: no weight is named as a Qwen2's or Llama's layer; got none"
        )
    subjects = read_subjects(options, base)
    rows = analyzed(base, subjects, options.k, options.device)
    if not rows:
        raise Failure("there must be a difference to analyze; got weights equal to the base's")
    about = {
        "base_model": logical_name(options.model),
        "base_digest": base_digest(options.model),
        "subjects": [subject.name for subject in subjects],
        "k": options.k,
        "command": options.command,
        "versions": versions(),
    }
    with whole_folder(folder) as partial:
        print(write_report(partial, RESULT, about, rows, [asdict(row) for row in rows]))
    print(f"saved {folder}")
