"""Reference logits for the server's parity tests, from transformers + PEFT in float32.

    python training/tests/parity_fixtures.py --output DIR [--reasoner models/tiny-reasoner]

Writes one folder per case: `checkpoint/` (a Hugging Face folder), `adapters/{a,b}` (PEFT folders),
`expected.safetensors` (logits [tokens, vocab] of every variant, and of it merged; of a probe its
direction [hidden] and what it tells of each token, [tokens]) and `case.json`. Random weights are
large, B included, so that every adapter moves the logits by far more than the tolerance.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from parity_cases import CASES, GREEDY_TOKENS, PROBE_LAYER, VARIANTS, Adapter, Case
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)


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
def merged_logits(
    checkpoint: Path,
    adapters: dict[str, Path],
    strengths: dict[str, float],
    prompts: list[list[int]],
) -> list[torch.Tensor]:
    """Of a model that PEFT has merged these adapters into."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    for name, strength in strengths.items():
        model = PeftModel.from_pretrained(model, adapters[name])
        for module in model.modules():
            if isinstance(getattr(module, "scaling", None), dict):
                module.scaling["default"] *= strength
        model = model.merge_and_unload()
    model.eval()
    return [model(torch.tensor([prompt])).logits[0] for prompt in prompts]


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


@torch.no_grad()
def probe_products(
    model: PeftModel, prompt: list[int], direction: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Site → direction · hidden state after the layer of the probe, [tokens]."""
    outputs = []
    layer = model.get_base_model().model.layers[PROBE_LAYER]
    hook = layer.mlp.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        states = model(torch.tensor([prompt]), output_hidden_states=True).hidden_states
    finally:
        hook.remove()
    # The first of the states is the embeddings.
    found = {"residual": states[PROBE_LAYER + 1], "mlp_output": outputs[0]}
    return {site: (hidden[0] @ direction).contiguous() for site, hidden in found.items()}


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
    direction = torch.arange(1, base.config.hidden_size + 1, dtype=torch.float32).sin()
    tensors["probe.direction"] = direction
    for variant, strengths in variants.items():
        with torch.no_grad():
            logits = variant_logits(
                model, strengths, lambda: [model(torch.tensor([p])).logits[0] for p in prompts]
            )
        for i, values in enumerate(logits):
            tensors[f"{variant}.{i}"] = values.contiguous()
        for i, values in enumerate(merged_logits(checkpoint, adapters, strengths, prompts)):
            tensors[f"merged.{variant}.{i}"] = values.contiguous()
        for i, prompt in enumerate(prompts):
            products = variant_logits(
                model,
                strengths,
                lambda prompt=prompt: probe_products(model, prompt, direction),
            )
            for site, values in products.items():
                tensors[f"probe.{site}.{variant}.{i}"] = values
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
