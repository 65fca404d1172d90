"""A checkpoint's tensors, read one at a time: a 14B base never lies whole in memory."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from trainer.shared.failure import Failure
from trainer.shared.io import read_json

LINEAR = re.compile(r"^model\.layers\.(\d+)\.(?:self_attn|mlp)\.([a-z]+_proj)\.weight$")


class TensorStore:
    """Names → tensors, over all safetensors files of the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "config.json").is_file():
            raise Failure(
                f"a model must be a checkpoint folder with a config.json; got {str(folder)!r}; "
                "pass a folder such as models/tiny-reasoner"
            )
        self.config = read_json(folder / "config.json")
        self.files = sorted(folder.glob("*.safetensors"))
        if not self.files:
            raise Failure(
                f"a model must hold its weights as *.safetensors; got none in {str(folder)!r}; "
                "save it with save_pretrained"
            )
        self.file_of: dict[str, Path] = {}
        for path in self.files:
            try:
                with safe_open(path, framework="pt") as file:
                    self.file_of.update(dict.fromkeys(file.keys(), path))
            except SafetensorError as error:
                raise Failure(
                    f"{path}: must be a whole safetensors file; got {error}; download it again"
                ) from error

    def shape(self, name: str) -> tuple[int, ...]:
        with safe_open(self.file_of[name], framework="pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def read(self, name: str, device: str = "cpu") -> torch.Tensor:
        with safe_open(self.file_of[name], framework="pt", device=device) as file:
            return file.get_tensor(name)

    def linear_modules(self) -> list[tuple[int, str, str]]:
        """(layer, module such as up_proj, tensor name) in layer order."""
        found = [(match, name) for name in self.file_of if (match := LINEAR.match(name))]
        return sorted((int(match[1]), match[2], name) for match, name in found)
