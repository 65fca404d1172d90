"""Singular vectors of weights and the stable rank of updates, dense ones and factored ones B·A.

Everything is float64: the vectors serve as projectors, whose errors would stay in the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

SMALL = 768  # min(d, n) up to which the full SVD costs no more than the truncated one
OVERSAMPLING = 8
MAX_BLOCKS = 40
CHECK_EVERY = 3  # blocks
# ‖Wᵀu - s·v‖ of every kept triple, as a share of the largest singular value. It bounds each s;
# a vector's angle is off by at most it divided by the gap to the next singular value.
RESIDUAL = 1e-6


@dataclass(frozen=True)
class Top:
    """The k largest singular triples of a weight [d, n], the largest first."""

    u: torch.Tensor  # [d, k]
    s: torch.Tensor  # [k]
    v: torch.Tensor  # [n, k]

    def first(self, k: int) -> Top:
        return Top(self.u[:, :k], self.s[:k], self.v[:, :k])


@dataclass(frozen=True)
class Factors:
    """An update B·A that is never multiplied out; a scaling alpha/r belongs into b."""

    b: torch.Tensor  # [d, r]
    a: torch.Tensor  # [r, n]


def top_singular(weight: torch.Tensor, k: int, *, residual: float = RESIDUAL) -> Top:
    """`weight` [d, n] on any device. Large matrices by block Krylov iteration, which also finds
    slowly decaying spectra; should it not reach `residual`, by the full SVD."""
    matrix = weight.detach().double()
    if k == 0:
        rows, columns = matrix.shape
        return Top(matrix.new_zeros(rows, 0), matrix.new_zeros(0), matrix.new_zeros(columns, 0))
    if min(matrix.shape) > SMALL:
        found = krylov(matrix, k, residual)
        if found is not None:
            return found
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return Top(u[:, :k], s[:k], vh[:k].T.contiguous())


def krylov(matrix: torch.Tensor, k: int, residual: float) -> Top | None:
    """Rayleigh-Ritz on span{X, WᵀW·X, (WᵀW)²·X, …}: all blocks are kept, not only the last as in
    power iteration, so the error falls with the square root of the gap. None: not converged."""
    n = matrix.shape[1]
    width = k + OVERSAMPLING
    # A fixed start: the same weight gives the same vectors on every run.
    start = torch.randn(n, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis = torch.linalg.qr(start.to(matrix.device))[0]  # [n, columns], orthonormal
    image = matrix @ basis  # [d, columns]
    last = image
    for number in range(1, MAX_BLOCKS + 1):
        if basis.shape[1] + width > min(matrix.shape) // 2:
            return None
        block = matrix.T @ last
        for _ in range(2):  # twice is enough for orthogonality to rounding
            block = block - basis @ (basis.T @ block)
            block = torch.linalg.qr(block)[0]
        last = matrix @ block
        basis, image = torch.cat([basis, block], 1), torch.cat([image, last], 1)
        if number % CHECK_EVERY:
            continue
        # The Gram matrix only picks the k-dimensional space; the SVD within it is accurate.
        picked = torch.linalg.eigh(image.T @ image)[1][:, -k:]  # [columns, k]
        u, s, right = torch.linalg.svd(image @ picked, full_matrices=False)
        v = basis @ (picked @ right.T)
        # W·v = s·u holds by construction; the other side tells how far the space is from closed.
        if (matrix.T @ u - v * s).norm(dim=0).max() <= residual * s[0]:
            return Top(u, s, v)
    return None


def product_norm(left: torch.Tensor, right: torch.Tensor) -> float:
    """‖L·R‖ (Frobenius) of L [m, r] and R [r, n] from their r x r Gram matrices."""
    squared = ((left.T @ left) * (right @ right.T)).sum()
    return squared.clamp(min=0).sqrt().item()


def stable_rank(delta: torch.Tensor | Factors) -> float:
    """‖Δ‖_F² / ‖Δ‖₂², between 1 and the rank; 0 for no update at all."""
    if isinstance(delta, Factors):
        return factored_stable_rank(delta.b.double(), delta.a.double())
    matrix = delta.double()
    total = matrix.square().sum().item()
    if total == 0:
        return 0.0
    if min(matrix.shape) <= SMALL:
        largest = torch.linalg.svdvals(matrix)[0].item()
    else:
        largest = top_singular(matrix, 1, residual=1e-4).s[0].item()
    return total / largest**2


def factored_stable_rank(b: torch.Tensor, a: torch.Tensor) -> float:
    """B·A has the singular values of Rb·Raᵀ, where B = Qb·Rb and Aᵀ = Qa·Ra: r x r."""
    small = torch.linalg.qr(b)[1] @ torch.linalg.qr(a.T)[1].T
    values = torch.linalg.svdvals(small)
    largest = values[0].item()
    return values.square().sum().item() / largest**2 if largest > 0 else 0.0
