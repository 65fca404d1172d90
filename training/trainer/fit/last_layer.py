"""The last layer, its MLP only for the positions whose output somebody asks for.

Every position's key and value serve the completion's tokens; above the attention of the last layer
nothing reads a prompt's position any more.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

# By name: a layer that FSDP has wrapped must be called as a whole, and has another.
KNOWN = ("Qwen2DecoderLayer", "LlamaDecoderLayer")


def is_known(layer: nn.Module) -> bool:
    return type(layer).__name__ in KNOWN


class LastLayer(GradientCheckpointingLayer):
    """Shares everything with `layer`. wanted: [rows, length] bool."""

    def __init__(self, layer: nn.Module, wanted: Tensor) -> None:
        super().__init__()
        self.layer, self.wanted = layer, wanted
        self.train(layer.training)
        self.gradient_checkpointing = layer.gradient_checkpointing
        if self.gradient_checkpointing:
            self._gradient_checkpointing_func = layer._gradient_checkpointing_func

    def forward(self, hidden: Tensor, **more: Any) -> Tensor:
        """[rows, length, hidden size] -> [wanted positions, hidden size]."""
        layer = self.layer
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **more)
        chosen = (hidden + attended)[self.wanted]
        return chosen + layer.mlp(layer.post_attention_layernorm(chosen))
