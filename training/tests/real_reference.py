"""The reference of `npm run test:real`: what transformers and PEFT make of a model's GGUF file.

    python training/tests/real_reference.py --model FILE.gguf --prompts prompts.json \
        --exported FOLDER [--adapters FOLDER …] --output DIR

transformers reads the file itself, in float32; none of our own readers takes part. Writes
`reference.json` (tokens of prompts and greedy answers, texts) and `logits.safetensors`
([answer tokens, vocab] of each prompt and variant). Variants: the base, an adapter with random
numbers on every linear module, and each given adapter. `--exported` is what `export-model` made of
the same file: its weights must be the same bits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import gguf
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

ANSWER_TOKENS = 16
# Prompts that each adapter is compared on.
ADAPTER_PROMPTS = 4
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Answer:
    # Of the prompt, by the chat template.
    prompt: list[int]
    # The token with the largest logit at each step; ends with the end token or at the bound.
    tokens: list[int]
    text: str


def differing_tensors(model: PreTrainedModel, exported: Path) -> list[str]:
    """Names of tensors that are not the same bits in the folder, or in one of the two only."""
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    with safe_open(exported / "model.safetensors", "pt") as file:
        names = set(file.keys())
        differing = names.symmetric_difference(state)
        for name in names & set(state):
            if not torch.equal(file.get_tensor(name), state[name]):
                differing.add(name)
    return sorted(differing)


@torch.no_grad()
def answer_greedily(
    model: torch.nn.Module, prompt: list[int], end: int
) -> tuple[list[int], torch.Tensor]:
    """Tokens, and the logits that each came from: [tokens, vocab]."""
    out = model(torch.tensor([prompt]), use_cache=True)
    tokens, logits = [], []
    while True:
        logits.append(out.logits[0, -1])
        tokens.append(int(logits[-1].argmax()))
        if tokens[-1] == end or len(tokens) == ANSWER_TOKENS:
            return tokens, torch.stack(logits)
        step = torch.tensor([tokens[-1:]])
        out = model(step, past_key_values=out.past_key_values, use_cache=True)


def save_random_adapter(base: PreTrainedModel, path: Path) -> None:
    """Large enough to move the logits, small enough to leave a language."""
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=MODULES, task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape) * 0.02)
    model.save_pretrained(path)
    model.unload()


def variants(
    base: PreTrainedModel, prompts: int, adapters: dict[str, Path]
) -> Iterator[tuple[str, torch.nn.Module, int]]:
    """Name, model, and how many of the prompts it answers."""
    yield "base", base, prompts
    for name, path in adapters.items():
        model = PeftModel.from_pretrained(base, path).eval()
        yield name, model, min(prompts, ADAPTER_PROMPTS)
        model.unload()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--exported", type=Path, required=True)
    parser.add_argument("--adapters", type=Path, nargs="*", default=[])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()

    # transformers reads the header for the tokenizer, the config and the weights: seconds each.
    gguf.GGUFReader = cache(gguf.GGUFReader)
    file = {"pretrained_model_name_or_path": args.model.parent, "gguf_file": args.model.name}
    tokenizer = AutoTokenizer.from_pretrained(**file)
    base = AutoModelForCausalLM.from_pretrained(**file, dtype=torch.float32).eval()
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in json.loads(args.prompts.read_text())
    ]
    differing = differing_tensors(base, args.exported)

    random = args.output / "adapters" / "random"
    save_random_adapter(base, random)
    adapters = {path.name: path for path in [random, *args.adapters]}
    answers: dict[str, list[dict]] = {}
    tensors: dict[str, torch.Tensor] = {}
    for name, model, count in variants(base, len(prompts), adapters):
        answers[name] = []
        for i, prompt in enumerate(prompts[:count]):
            tokens, logits = answer_greedily(model, prompt, tokenizer.eos_token_id)
            text = tokenizer.decode(tokens, skip_special_tokens=True)
            answers[name].append(asdict(Answer(prompt, tokens, text)))
            tensors[f"{name}.{i}"] = logits.contiguous()
    save_file(tensors, args.output / "logits.safetensors")
    reference = {"answers": answers, "differingTensors": differing}
    (args.output / "reference.json").write_text(json.dumps(reference))


if __name__ == "__main__":
    main()
