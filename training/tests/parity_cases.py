"""The cases of parity_fixtures.py: shapes, adapters and strengths."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

# name → the strength of each adapter
VARIANTS: dict[str, dict[str, float]] = {
    "base": {},
    "a": {"a": 1.0},
    "b": {"b": 1.0},
    "a-half": {"a": 0.5},
    "a-and-b": {"a": 1.0, "b": 1.0},
}
PROMPT_TOKENS = 24
GREEDY_TOKENS = 64
PROBE_LAYER = 1


@dataclass(frozen=True)
class Adapter:
    rank: int = 1
    layers: list[int] | None = None
    targets: tuple[str, ...] = ("up_proj",)
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    name: str
    family: str
    dtype: torch.dtype = torch.float32
    sharded: bool = False
    config: dict = field(default_factory=dict)
    # config.json in the spelling from before transformers 5
    older_spelling: bool = False
    prompt_tokens: int = PROMPT_TOKENS
    adapters: dict[str, Adapter] = field(
        default_factory=lambda: {"a": Adapter(), "b": Adapter(rank=3, layers=[1, 2])}
    )
    variants: dict[str, dict[str, float]] = field(default_factory=lambda: VARIANTS)


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL_MODULES = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
# Every kind of LoRA at once, each in a row of one batch.
MIXED_ADAPTERS = {
    "a": Adapter(),
    "b": Adapter(rank=16, targets=ALL_MODULES, options={"use_rslora": True, "lora_alpha": 2}),
    "c": Adapter(
        rank=4,
        targets=("q_proj", "v_proj", "up_proj", "down_proj"),
        options={
            "lora_alpha": 4,
            "rank_pattern": {"down_proj": 8, "layers.2.self_attn.q_proj": 2},
            "alpha_pattern": {"v_proj": 6, "layers.1.mlp.up_proj": 1},
        },
    ),
    "d": Adapter(rank=8, layers=[0, 3], targets=("gate_proj", "up_proj")),
    "e": Adapter(rank=3, targets=ATTENTION),
}
MIXED_VARIANTS = {
    "base": {},
    **{name: {name: 1.0} for name in MIXED_ADAPTERS},
    "a-half": {"a": 0.5},
    "a-c-and-e": {"a": 1.0, "c": 0.7, "e": 0.5},
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# Prompts of these run beyond the original maximum, where scaling changes most.
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 1000.0, "factor": 4.0}
YARN_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 100.0,
    "factor": 4.0,
    "beta_fast": 8.0,
    "original_max_position_embeddings": 32,
}
YARN_ROPE_WEIGHTED = {
    "rope_type": "yarn",
    "rope_theta": 1000.0,
    "factor": 8.0,
    "beta_fast": 6.0,
    "beta_slow": 0.5,
    "mscale": 1.0,
    "mscale_all_dim": 0.4,
    "truncate": False,
    "original_max_position_embeddings": 32,
}
CASES = [
    Case("qwen2-tied-f32", "qwen2", config={"tie_word_embeddings": True}),
    Case("qwen2-untied-bf16-sharded", "qwen2", torch.bfloat16, sharded=True),
    Case(
        "qwen2-untied-f16",
        "qwen2",
        torch.float16,
        adapters={
            "a": Adapter(),
            "b": Adapter(
                rank=3,
                layers=[1, 2],
                targets=ALL_MODULES,
                options={"use_rslora": True, "rank_pattern": {"q_proj": 2, "down_proj": 1}},
            ),
        },
    ),
    Case(
        "llama-untied-f16-llama3", "llama", torch.float16, config={"rope_parameters": LLAMA3_ROPE}
    ),
    Case(
        "llama-tied-f32-bias-sharded",
        "llama",
        sharded=True,
        config={"tie_word_embeddings": True, "attention_bias": True},
    ),
    Case(
        "llama-headdim-bf16",
        "llama",
        torch.bfloat16,
        config={"head_dim": 32},
        adapters={
            "a": Adapter(
                rank=4, targets=("q_proj", "v_proj"), options={"alpha_pattern": {"v_proj": 4}}
            ),
            "b": Adapter(rank=12, layers=[1, 2], targets=("k_proj", "gate_proj", "down_proj")),
        },
    ),
    Case(
        "qwen2-yarn",
        "qwen2",
        config={"rope_parameters": YARN_ROPE, "max_position_embeddings": 128},
        prompt_tokens=56,
    ),
    Case(
        "llama-yarn-older",
        "llama",
        torch.bfloat16,
        config={"rope_parameters": YARN_ROPE_WEIGHTED, "head_dim": 32},
        older_spelling=True,
        prompt_tokens=56,
    ),
    Case(
        "llama-yarn-attention-factor",
        "llama",
        config={"rope_parameters": YARN_ROPE | {"attention_factor": 1.3}},
        prompt_tokens=56,
    ),
    Case("llama-linear", "llama", config={"rope_parameters": LINEAR_ROPE}, prompt_tokens=56),
    Case(
        "qwen2-linear-older",
        "qwen2",
        config={"rope_parameters": LINEAR_ROPE},
        older_spelling=True,
        prompt_tokens=56,
    ),
    Case(
        "qwen2-mixed-adapters",
        "qwen2",
        config={"tie_word_embeddings": True},
        adapters=MIXED_ADAPTERS,
        variants=MIXED_VARIANTS,
    ),
    Case("llama-mixed-adapters", "llama", adapters=MIXED_ADAPTERS, variants=MIXED_VARIANTS),
]
