"""The penalties reg-col and reg-both: how much an update overlaps the weights it is added to.

reg-col: beta * (|W' dW| / (|W| |dW|))^2 with Frobenius norms, W [d, n] frozen, dW = B A; reg-both
adds beta * (|dW W'| / (|W| |dW|))^2, the overlap of the row spaces. Both are computed on the
factors, B [d, r] and A [r, n]: no [d, n] product is ever formed, and W itself is used instead of a
truncated one. The scale of an update cancels. Summed over the adapted matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.shared.recipe import Reg

TINY = 1e-24  # keeps an update of zero at a penalty of zero


def squared_norm(b: Tensor, a: Tensor) -> Tensor:
    """|B A|_F^2 = tr(B'B AA') for any B [d, r], A [r, n]."""
    return ((b.T @ b) * (a @ a.T)).sum()


def penalty(weight: Tensor, b: Tensor, a: Tensor, reg: Reg, weight_norm2: Tensor) -> Tensor:
    """Of one matrix, without beta. weight_norm2 = |W|_F^2."""
    update = squared_norm(b, a) * weight_norm2 + TINY
    overlap = squared_norm(weight.T @ b, a)
    if reg == "both":
        overlap = overlap + squared_norm(b, a @ weight.T)
    return overlap / update


class Regulariser:
    """Over all LoRA layers of a PEFT model."""

    def __init__(self, model: nn.Module, reg: Reg, beta: float) -> None:
        self.reg, self.beta = reg, beta
        self.layers = [m for m in model.modules() if hasattr(m, "lora_A") and "default" in m.lora_A]
        self.norms2 = [layer.base_layer.weight.float().pow(2).sum() for layer in self.layers]

    def __call__(self) -> Tensor:
        terms = [
            penalty(
                layer.base_layer.weight.float(),
                layer.lora_B["default"].weight.float(),
                layer.lora_A["default"].weight.float(),
                self.reg,
                norm2,
            )
            for layer, norm2 in zip(self.layers, self.norms2, strict=True)
        ]
        return self.beta * torch.stack(terms).sum()
