"""The reference of `npm run test:real`: what transformers and PEFT make of a model's GGUF file.

    python training/tests/real_reference.py --model FILE.gguf --answers answers.json \
        --exported FOLDER --adapters FOLDER --output DIR

transformers reads the file itself, in float32; none of our own readers takes part. `answers.json`
has prompts and, for the base and each adapter of the folder, the tokens that the server's model
answers with. Writes `logits.safetensors` ([answer tokens, vocab]: from which each token of an
answer would be chosen; computed at once, so greedy answers are checked without being repeated) and
`reference.json` (tokens of the prompts, texts of the answers). `--exported` is what `export-model`
made of the same file: its weights must be the same bits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import gguf
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel


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
def answer_logits(model: torch.nn.Module, prompt: list[int], tokens: list[int]) -> torch.Tensor:
    """What each token of the answer was chosen from: [tokens, vocab]."""
    out = model(torch.tensor([prompt + tokens[:-1]]), logits_to_keep=len(tokens))
    return out.logits[0].contiguous()


def variants(
    base: PreTrainedModel, adapters: Path, names: list[str]
) -> Iterator[tuple[str, torch.nn.Module]]:
    """The base first: PEFT changes the very modules of it."""
    yield "base", base
    for name in names:
        model = PeftModel.from_pretrained(base, adapters / name).eval()
        yield name, model
        model.unload()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--model", "--answers", "--exported", "--adapters", "--output"):
        parser.add_argument(name, type=Path, required=True)
    args = parser.parse_args()

    # transformers reads the header for the tokenizer, the config and the weights: seconds each.
    gguf.GGUFReader = cache(gguf.GGUFReader)
    file = {"pretrained_model_name_or_path": args.model.parent, "gguf_file": args.model.name}
    tokenizer = AutoTokenizer.from_pretrained(**file)
    base = AutoModelForCausalLM.from_pretrained(**file, dtype=torch.float32).eval()
    given = json.loads(args.answers.read_text())
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in given["prompts"]
    ]
    differing = differing_tensors(base, args.exported)

    answers: dict[str, list[list[int]]] = given["answers"]
    names = [name for name in answers if name != "base"]
    texts: dict[str, list[str]] = {}
    logits: dict[str, torch.Tensor] = {}
    for name, model in variants(base, args.adapters, names):
        texts[name] = [tokenizer.decode(t, skip_special_tokens=True) for t in answers[name]]
        for i, tokens in enumerate(answers[name]):
            logits[f"{name}.{i}"] = answer_logits(model, prompts[i], tokens)
    save_file(logits, args.output / "logits.safetensors")
    reference = {"prompts": prompts, "texts": texts, "differingTensors": differing}
    (args.output / "reference.json").write_text(json.dumps(reference))


if __name__ == "__main__":
    main()
