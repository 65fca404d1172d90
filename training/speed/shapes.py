"""Shapes of real checkpoints with random weights: speed and memory do not depend on the values."""

from __future__ import annotations

import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config

from trainer.shared.recipe import Dtype

PAD_ID = 0
CONTEXT = 2048


def qwen2(vocab: int, hidden: int, inner: int, layers: int, heads: int, kv: int, tied: bool):
    return Qwen2Config(**sizes(vocab, hidden, inner, layers, heads, kv, tied))


def sizes(vocab: int, hidden: int, inner: int, layers: int, heads: int, kv: int, tied: bool):
    return {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "tie_word_embeddings": tied,
        "max_position_embeddings": CONTEXT,
        "pad_token_id": PAD_ID,
    }


SHAPES: dict[str, PretrainedConfig] = {
    "toy": qwen2(800, 64, 192, 6, 4, 2, True),  # for the tests
    "qwen2.5-0.5b": qwen2(151936, 896, 4864, 24, 14, 2, True),
    "r1-qwen-1.5b": qwen2(151936, 1536, 8960, 28, 12, 2, False),
    "r1-qwen-7b": qwen2(152064, 3584, 18944, 28, 28, 4, False),
    "r1-llama-8b": LlamaConfig(**sizes(128256, 4096, 14336, 32, 32, 8, False)),
    "r1-qwen-14b": qwen2(152064, 5120, 13824, 48, 40, 8, False),
}


def random_model(shape: str, dtype: Dtype, device: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(SHAPES[shape], dtype=getattr(torch, dtype))
