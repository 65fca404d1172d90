"""JSON files, folders replaced whole, checkpoints loaded with transformers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trainer.shared.failure import Failure
from trainer.shared.gguf_folder import checkpoint_folder


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Of a file that this program or its data notes wrote. Not splitlines, which also breaks at
    separators that may stand inside a string."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_whole(path: Path, text: str) -> None:
    """Beside the old file, then over it: a reader sees one or the other, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def replace_folder(partial: Path, folder: Path) -> None:
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_model(
    name: Path | str, dtype: str = "auto"
) -> tuple[torch.nn.Module, PreTrainedTokenizerBase]:
    """Any causal checkpoint folder, GGUF file or hub id; dtype auto: as stored."""
    from transformers import AutoModelForCausalLM

    name = checkpoint_folder(name, dtype)
    is_folder = (Path(name) / "config.json").is_file()
    if not is_folder and (Path(name).exists() or str(name).count("/") != 1 or Path(name).suffix):
        raise Failure(
            f"the model must be a checkpoint folder with a config.json, a GGUF file, or a hub id; "
            f"got {str(name)!r}; run `npm run make-models` for the embedded one, or pass another "
            "as --model"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200]
        raise Failure(
            f"the model must load in transformers; got {str(name)!r}: {reason}; check the folder, "
            "or the hub id, HF_TOKEN and the connection"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer
