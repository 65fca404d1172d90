"""Norms and MLPs that keep less for the way back; the same numbers as the model's own.

Autograd keeps whatever an operation might need: float32 copies of the residual stream for an
RMSNorm, and both silu(gate) and gate beside up for an MLP. What can be made again from the rest in
an elementwise pass is not kept here.
"""

from __future__ import annotations

from types import MethodType

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import silu
from transformers.activations import ACT2FN

OWN_FORWARDS = (
    "Qwen2RMSNorm.forward", "LlamaRMSNorm.forward", "Qwen2MLP.forward", "LlamaMLP.forward",
)  # fmt: skip


def make_lean(model: nn.Module) -> None:
    """In place; layers of any other kind, and those that something else has replaced, stay."""
    for module in model.modules():
        if getattr(module.forward, "__qualname__", None) not in OWN_FORWARDS:
            continue
        if hasattr(module, "variance_epsilon"):
            module.forward = MethodType(lean_norm, module)
        elif isinstance(module.act_fn, type(ACT2FN["silu"])):
            module.forward = MethodType(lean_mlp, module)


def lean_norm(norm: nn.Module, hidden: Tensor) -> Tensor:
    return RMSNorm.apply(hidden, norm.weight, norm.variance_epsilon)


def lean_mlp(mlp: nn.Module, hidden: Tensor) -> Tensor:
    return mlp.down_proj(SwiGLU.apply(mlp.gate_proj(hidden), mlp.up_proj(hidden)))


class SwiGLU(torch.autograd.Function):
    """silu(gate) * up; keeps the two."""

    @staticmethod
    def forward(ctx: FunctionCtx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        of_gate = torch.ops.aten.silu_backward(upstream * up, gate)
        return of_gate, silu(gate).mul_(upstream)


class RMSNorm(torch.autograd.Function):
    """weight * (h * scale), scale = 1 / sqrt(mean(h^2) + eps) in float32; keeps h and scale."""

    @staticmethod
    def forward(ctx: FunctionCtx, hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = hidden.float()
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(hidden, weight, scale)
        return weight * (wide * scale).to(hidden.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden, weight, scale = ctx.saved_tensors
        normed = hidden.float().mul_(scale)
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = (upstream * normed.to(hidden.dtype)).sum_to_size(weight.shape)
        wide = (upstream * weight).float()
        along = (wide * normed).mean(-1, keepdim=True)
        of_hidden = wide.sub_(normed.mul_(along)).mul_(scale)
        return of_hidden.to(hidden.dtype), of_weight, None
