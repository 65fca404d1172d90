"""OrthoMerge on factors: an update leaves the top singular directions of its weight, at its rank.

Pure; reading and writing folders is in orthomerge_adapter.py.
"""

from __future__ import annotations

from typing import Literal

import torch

from trainer.weights.spectrum import Top

Mode = Literal["col", "both"]
MODES: tuple[Mode, ...] = ("col", "both")
PAPER_K, PAPER_HIDDEN = 64, 5120


def default_k(hidden: int) -> int:
    """The paper's share of the space, 64 of 5120, for a model of this width."""
    return max(1, round(hidden * PAPER_K / PAPER_HIDDEN))


def project(
    b: torch.Tensor, a: torch.Tensor, top: Top, mode: Mode, *, strength: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """b [d, r] ← λ(I - UUᵀ)b and, for `both`, a [r, n] ← a(I - VVᵀ); k is the width of `top`.

    The product is λ(I - UUᵀ)·B·A·(I - VVᵀ), and the rank cannot grow. Dtypes stay as they are.
    """
    new_b, new_a = b.double(), a.double()
    u, v = top.u.double(), top.v.double()
    new_b = strength * (new_b - u @ (u.T @ new_b))
    if mode == "both":
        new_a = new_a - (new_a @ v) @ v.T
    return new_b.to(b.dtype), new_a.to(a.dtype)
