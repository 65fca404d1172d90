"""The device that a command was asked for."""

from __future__ import annotations

import torch

from trainer.shared.failure import Failure


def check_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise Failure(
            "--device cuda needs an NVIDIA GPU that this PyTorch can use; found none; use --device "
            "cpu, or install PyTorch's CUDA build and the driver"
        )
