"""The tiny reasoner's shape, and how it is saved: a Hugging Face folder, written whole or not."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from trainer.shared.io import read_json, replace_folder, write_json

VOCAB_SIZE = 800
MAX_POSITIONS = 2048


def reasoner_config(tokenizer: PreTrainedTokenizerBase) -> Qwen2Config:
    """1.7 M parameters: 8 layers, so that "middle layers" means something, and grouped heads."""
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        initializer_range=0.04,
        use_sliding_window=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )


def new_reasoner(tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(reasoner_config(tokenizer))
    model.set_attn_implementation("eager")  # faster than sdpa under bfloat16 autocast on CPU
    return model


def save_reasoner(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    """Writes beside `folder`, then swaps: readers see the old files or the new, never a mix."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
    )
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    add_for_older_readers(partial)
    if (folder / "README.md").is_file():
        shutil.copy2(folder / "README.md", partial / "README.md")
    replace_folder(partial, folder)


def add_for_older_readers(folder: Path) -> None:
    """transformers 5 writes the rope base, the tokenizer class and the template where version 4,
    and programs made for its files, do not look; say them in the old places too."""
    config = read_json(folder / "config.json")
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    config["torch_dtype"] = config["dtype"]
    write_json(folder / "config.json", config)
    settings = read_json(folder / "tokenizer_config.json")
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings["chat_template"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    write_json(folder / "tokenizer_config.json", settings)
    for path in folder.iterdir():
        path.chmod(0o644)
