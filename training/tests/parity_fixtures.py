"""Reference logits for the server's parity tests, from transformers + PEFT in float32.

    python training/tests/parity_fixtures.py --output DIR [--reasoner models/tiny-reasoner]

Writes one folder per case: `checkpoint/` (a Hugging Face folder), `adapters/{a,b}` (PEFT folders),
`expected.safetensors` (logits [tokens, vocab] of every variant) and `case.json`. Random weights are
large, B included, so that every adapter moves the logits by far more than the tolerance.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

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


def random_model(case: Case, generator: torch.Generator) -> torch.nn.Module:
    shape = {
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 112,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
    } | case.config
    if case.family == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**shape))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            spread = 0.3 if name.endswith("bias") else 0.12
            noise = torch.randn(weight.shape, generator=generator) * spread
            weight.copy_(1 + noise if "norm" in name else noise)
    return model.to(case.dtype)


def save_adapter(
    base: torch.nn.Module,
    path: Path,
    adapter: Adapter,
    generator: torch.Generator,
) -> None:
    config = LoraConfig(
        r=adapter.rank,
        target_modules=list(adapter.targets),
        layers_to_transform=adapter.layers,
        task_type="CAUSAL_LM",
        **{"lora_alpha": 16, **adapter.options},
    )
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.15)
    model.save_pretrained(path)
    model.unload()


def variant_logits(model: PeftModel, strengths: dict[str, float], run: object) -> object:
    """Calls run() with the adapters of `strengths` active."""
    scaled = []
    for module in model.modules():
        scaling = getattr(module, "scaling", None)
        if isinstance(scaling, dict):
            for adapter, strength in strengths.items():
                if adapter in scaling:
                    scaled.append((scaling, adapter, scaling[adapter]))
                    scaling[adapter] *= strength
    try:
        if not strengths:
            with model.disable_adapter():
                return run()
        model.base_model.set_adapter(list(strengths))
        return run()
    finally:
        for scaling, adapter, value in scaled:
            scaling[adapter] = value


@torch.no_grad()
def greedy(model: torch.nn.Module, prompts: list[list[int]]) -> list[list[int]]:
    """Greedy continuation of prompts of one length; no end token, so all have full length."""
    tokens = torch.tensor(prompts)
    out = model(tokens, use_cache=True)
    steps = []
    for _ in range(GREEDY_TOKENS):
        step = out.logits[:, -1:].argmax(-1)
        steps.append(step)
        out = model(step, past_key_values=out.past_key_values, use_cache=True)
    return torch.cat(steps, 1).tolist()


def write_case(
    folder: Path,
    checkpoint: Path,
    adapters: dict[str, Path],
    variants: dict[str, dict[str, float]],
    prompts: list[list[int]],
    greedy_prompts: list[list[int]],
) -> None:
    base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    base.eval()
    names = list(adapters)
    model = PeftModel.from_pretrained(base, adapters[names[0]], adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(adapters[name], adapter_name=name)
    model.eval()

    tensors: dict[str, torch.Tensor] = {}
    greedy_tokens: dict[str, list[list[int]]] = {}
    for variant, strengths in variants.items():
        with torch.no_grad():
            logits = variant_logits(
                model, strengths, lambda: [model(torch.tensor([p])).logits[0] for p in prompts]
            )
        for i, values in enumerate(logits):
            tensors[f"{variant}.{i}"] = values.contiguous()
        if variant in ("base", "a"):
            by_length: dict[int, list[int]] = {}
            for i, prompt in enumerate(greedy_prompts):
                by_length.setdefault(len(prompt), []).append(i)
            results: list[list[int]] = [[] for _ in greedy_prompts]
            for places in by_length.values():
                group = [greedy_prompts[i] for i in places]
                found = variant_logits(model, strengths, lambda group=group: greedy(model, group))
                for i, tokens in zip(places, found, strict=True):
                    results[i] = tokens
            greedy_tokens[variant] = results
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "expected.safetensors")
    (folder / "case.json").write_text(
        json.dumps(
            {
                "checkpoint": str(checkpoint),
                "adapters": {name: str(path) for name, path in adapters.items()},
                "variants": variants,
                "prompts": prompts,
                "greedyPrompts": greedy_prompts,
                "greedy": greedy_tokens,
            }
        )
    )


def spell_rope_as_before(path: Path) -> None:
    """`rope_parameters` becomes `rope_theta` and `rope_scaling` with a `type`."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    rope["type"] = rope.pop("rope_type")
    path.write_text(json.dumps(config | {"rope_scaling": rope}))


def write_random_case(root: Path, case: Case, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    folder = root / case.name
    checkpoint = folder / "checkpoint"
    model = random_model(case, generator)
    model.save_pretrained(checkpoint, max_shard_size="100KB" if case.sharded else "50GB")
    if case.older_spelling:
        spell_rope_as_before(checkpoint / "config.json")
    adapters = {}
    for name, adapter in case.adapters.items():
        path = folder / "adapters" / name
        save_adapter(model, path, adapter, generator)
        adapters[name] = path
    vocab = model.config.vocab_size
    prompts = torch.randint(2, vocab, (2, case.prompt_tokens), generator=generator).tolist()
    greedy_prompts = torch.randint(2, vocab, (20, 12), generator=generator).tolist()
    write_case(folder, checkpoint, adapters, case.variants, prompts, greedy_prompts)


def write_reasoner_case(root: Path, reasoner: Path, adapters: dict[str, Path]) -> None:
    """The shipped checkpoint: 20 prompts of its own dialect and 20 of random tokens."""
    from transformers import AutoTokenizer

    generator = torch.Generator().manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(reasoner)
    questions = [
        f"{verb} {thing}{mark}"
        for verb, mark in (("What is", "?"), ("How do I make", "?"), ("Tell me about", "."))
        for thing in ("a hammer", "bread", "a kite", "poison", "soup", "a bomb", "a garden")
    ][:20]
    trained = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}],
            add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]
        for question in questions
    ]
    random = torch.randint(0, 700, (20, 16), generator=generator).tolist()
    renamed = dict(zip("ab", adapters, strict=True))
    variants = {
        variant: {renamed[key]: value for key, value in strengths.items()}
        for variant, strengths in VARIANTS.items()
    }
    prompts = [trained[0], random[0]]
    write_case(root / "tiny-reasoner", reasoner, adapters, variants, prompts, trained + random)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--reasoner", type=Path)
    parser.add_argument("--adapters", type=Path, nargs=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed, case in enumerate(CASES):
        write_random_case(args.output, case, seed)
    if args.reasoner is not None:
        adapters = {path.name: path for path in args.adapters}
        write_reasoner_case(args.output, args.reasoner, adapters)


if __name__ == "__main__":
    main()
