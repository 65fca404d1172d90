"""How much an update reads from and writes into what the weight already uses: the paper's four."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from trainer.weights.spectrum import Factors, Top, product_norm

NUM_VECTORS = 16  # the paper's U₁₆ and V₁₆


@dataclass(frozen=True)
class Overlap:
    """Frobenius norms; W the weight, D the update, both [d, n]."""

    column: float  # ‖WᵀD‖ / (‖W‖‖D‖)
    column_share: float  # ‖UUᵀD‖ / ‖D‖
    row: float  # ‖WDᵀ‖ / (‖W‖‖D‖)
    row_share: float  # ‖VVᵀDᵀ‖ / ‖D‖


@dataclass(frozen=True)
class Row:
    """One changed weight of one subject."""

    subject: str
    layer: int
    module: str
    rows: int  # d, outputs
    columns: int  # n, inputs
    stable_rank: float
    overlap: Overlap


METRICS = {
    "column": "‖WᵀΔ‖ / (‖W‖‖Δ‖)",
    "column_share": "‖UUᵀΔ‖ / ‖Δ‖",
    "row": "‖WΔᵀ‖ / (‖W‖‖Δ‖)",
    "row_share": "‖VVᵀΔᵀ‖ / ‖Δ‖",
}


def overlap(weight: torch.Tensor, delta: torch.Tensor | Factors, top: Top) -> Overlap:
    """Both of one shape and device. An update of zero overlaps with nothing."""
    if isinstance(delta, Factors):
        b, a = delta.b.double(), delta.a.double()
        matrix = weight.double()
        size = product_norm(b, a)
        column, row = product_norm(matrix.T @ b, a), product_norm(matrix @ a.T, b.T)
        column_share, row_share = product_norm(top.u.T @ b, a), product_norm(top.v.T @ a.T, b.T)
        weight_size = matrix.norm().item()
    else:
        # The two large products in float32: d·d·n operations, and a norm needs no more.
        matrix, update = weight.float(), delta.float()
        size, weight_size = update.double().norm().item(), matrix.double().norm().item()
        column = (matrix.T @ update).double().norm().item()
        row = (matrix @ update.T).double().norm().item()
        exact = update.double()
        # U has orthonormal columns, so ‖UUᵀD‖ = ‖UᵀD‖.
        column_share = (top.u.T @ exact).norm().item()
        row_share = (exact @ top.v).norm().item()
    if size == 0 or weight_size == 0:
        return Overlap(0.0, 0.0, 0.0, 0.0)
    both = weight_size * size
    return Overlap(column / both, column_share / size, row / both, row_share / size)


def chance(rows: int, columns: int, k: int) -> Overlap:
    """What an update of random directions has (root mean square): the line to read values by."""
    return Overlap(
        1 / math.sqrt(rows), math.sqrt(k / rows), 1 / math.sqrt(columns), math.sqrt(k / columns)
    )
