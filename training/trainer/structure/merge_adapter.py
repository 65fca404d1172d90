"""`merge-adapter`: a base with an adapter folded in, as a checkpoint folder of its own.

python -m trainer merge-adapter --adapter adapters/safety-r1 --model models/tiny-reasoner \
    --output runs/merged
One shard is in memory at a time, so a 14B model merges in a few GiB; sharded as the base is.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from trainer.shared.failure import Failure
from trainer.shared.io import read_json, write_json
from trainer.shared.progress import Progress
from trainer.shared.repository import logical_name
from trainer.shared.versions import versions
from trainer.shared.whole_folder import whole_folder
from trainer.weights.base_digest import NOTE
from trainer.weights.lora_folder import LoraFolder, adapter_digest, check_base, read_lora
from trainer.weights.tensor_store import TensorStore

MANIFEST = "merge.json"
INDEX = "model.safetensors.index.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
COPIED = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")
# Results and the note of an export are the base's, not the merged model's.
NOT_COPIED = {INDEX, MANIFEST, NOTE, "results.json"}


@dataclass(frozen=True)
class MergeOptions:
    adapter: Path
    model: Path
    output: Path
    strength: float
    dtype: str | None  # None: each tensor keeps its own


def run(options: MergeOptions) -> None:
    check_merge_output(options)
    if not math.isfinite(options.strength):
        raise Failure(f"--strength must be a finite number; got {options.strength}; try 1")
    adapter, base = read_lora(options.adapter), TensorStore(options.model)
    digest = check_base(adapter, base)
    dtype = DTYPES[options.dtype] if options.dtype else None
    check_room(options.output, needed_bytes(base, dtype))
    with whole_folder(options.output) as partial:
        total = write_shards(adapter, base, partial, options.strength, dtype)
        copy_rest(base, partial, total, options.dtype)
        write_json(
            partial / MANIFEST,
            {
                "base_model": logical_name(options.model),
                "base_digest": digest,
                "adapter": options.adapter.resolve().name,
                "adapter_digest": adapter_digest(options.adapter),
                "strength": options.strength,
                "dtype": options.dtype,
                "versions": versions(),
            },
        )
    print(f"saved {options.output}: {len(adapter.modules())} weights changed")


def check_merge_output(options: MergeOptions) -> None:
    folder = options.output
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise Failure(
            f"--output must be new or a folder that merge-adapter made; got {str(folder)!r}, "
            "which holds something else; choose another name"
        )
    for other in (options.model, options.adapter):
        if folder.resolve() == other.resolve() or folder.resolve() in other.resolve().parents:
            raise Failure(f"--output must not be an input or hold one; got {str(folder)!r}")


def needed_bytes(base: TensorStore, dtype: torch.dtype | None) -> int:
    size = sum(path.stat().st_size for path in base.files)
    if dtype is None:
        return size
    stored = DTYPES.get(str(base.config.get("dtype", base.config.get("torch_dtype"))))
    return size * dtype.itemsize // stored.itemsize if stored else size


def check_room(folder: Path, needed: int) -> None:
    existing = next(path for path in folder.resolve().parents if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise Failure(
            f"the merged checkpoint needs {needed / 1e9:.1f} GB of disk; {free / 1e9:.1f} GB are "
            "free there; make room or choose another --output"
        )


def write_shards(
    adapter: LoraFolder,
    base: TensorStore,
    partial: Path,
    strength: float,
    dtype: torch.dtype | None,
) -> int:
    """Returns the bytes of all tensors."""
    adapted = {f"{module}.weight": module for module in adapter.modules()}
    progress = Progress("merging", len(base.file_of), "tensors")
    total = 0
    for path in base.files:
        with safe_open(path, framework="pt") as file:
            metadata, tensors = file.metadata(), {}
            for name in file.keys():  # noqa: SIM118 (not a dict)
                tensor = file.get_tensor(name)
                if name in adapted:
                    tensor = merged(tensor, adapter, adapted[name], strength, dtype)
                elif dtype is not None and tensor.is_floating_point():
                    tensor = tensor.to(dtype)
                tensors[name] = tensor
                total += tensor.nbytes
                progress.advance()
        save_file(tensors, partial / path.name, metadata=metadata)
    progress.close()
    return total


def merged(
    weight: torch.Tensor,
    adapter: LoraFolder,
    module: str,
    strength: float,
    dtype: torch.dtype | None,
) -> torch.Tensor:
    """W + strength · (alpha/r) · B·A, added in float32 and rounded once."""
    update = adapter.update(module)
    delta = (strength * update.b).float() @ update.a.float()
    return (weight.float() + delta).to(dtype or weight.dtype).contiguous()


def copy_rest(base: TensorStore, partial: Path, total: int, dtype: str | None) -> None:
    """Config, tokenizer, template, generation config; the card is the base's and stays there."""
    for pattern in COPIED:
        for path in base.folder.glob(pattern):
            if path.name not in NOT_COPIED and path.is_file():
                shutil.copyfile(path, partial / path.name)
    if (base.folder / INDEX).is_file():
        index = read_json(base.folder / INDEX)
        index["metadata"] = {**index.get("metadata", {}), "total_size": total}
        write_json(partial / INDEX, index)
    if dtype is not None:
        config = read_json(partial / "config.json")
        names = [name for name in ("dtype", "torch_dtype") if name in config] or ["torch_dtype"]
        write_json(partial / "config.json", config | dict.fromkeys(names, dtype))
