"""Writes checkpoints as GGUF files the way llama.cpp's converter does, with the Python package gguf.

python gguf_checkpoint.py models FOLDER...      FOLDER/model.gguf of each Hugging Face folder
python gguf_checkpoint.py split FOLDER...       the same in parts of 8 tensors
python gguf_checkpoint.py tokenizers FOLDER     small BPEs, FOLDER/<pre>.gguf, and the reference
                                                library's ids of FOLDER/strings.jsonl
"""

import json
import math
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file
from tokenizer_equality import VARIANTS
from tokenizers import AddedToken, Tokenizer, decoders, models, trainers
from tokenizers import pre_tokenizers as pre

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
# tokenizer.ggml.pre -> what the family's own tokenizer.json has.
PRE = {
    "qwen2": "qwen2",
    "deepseek-r1-qwen": "qwen2",
    "llama-bpe": "llama3",
    "smollm": "smollm2",
    "gpt-2": "gpt2",
    "deepseek-coder": "deepseek-coder",
    "deepseek-llm": "deepseek-llm",
}
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
)

NAMED = {"bos_token": "<|begin|>", "eos_token": "<|im_end|>", "chat_template": TEMPLATE}


def their_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.{kind}"
    _, _, layer, module = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[module]}.{kind}"


def alternating(weight: np.ndarray, heads: int) -> np.ndarray:
    """The two halves of each head, row by row in turn."""
    shape = weight.shape
    halves = weight.reshape(heads, 2, shape[0] // heads // 2, *shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(shape)


def llama3_divisors(config: dict, scaling: dict) -> np.ndarray:
    size, base = config["head_dim"], config["rope_theta"]
    factor, low, high = (
        scaling[k] for k in ("factor", "low_freq_factor", "high_freq_factor")
    )
    original = scaling["original_max_position_embeddings"]
    divisors = []
    for exponent in range(0, size, 2):
        length = 2 * math.pi * base ** (exponent / size)
        if length < original / high:
            divisors.append(1)
        elif length > original / low:
            divisors.append(factor)
        else:
            smooth = (original / length - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, dtype=np.float32)


def add_tokenizer(
    writer: gguf.GGUFWriter,
    tokenizer: Tokenizer,
    name: str,
    rows: int,
    named: dict[str, str] = NAMED,
) -> None:
    content = json.loads(tokenizer.to_str())
    added = {token["id"]: token for token in content["added_tokens"]}
    texts = {
        id: text for text, id in tokenizer.get_vocab(with_added_tokens=True).items()
    }
    ids = range(max(rows, len(texts)))
    kinds = [
        UNUSED if i not in texts
        else 1 if i not in added
        else CONTROL if added[i]["special"]
        else USER_DEFINED
        for i in ids
    ]  # fmt: skip
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list([texts.get(i, f"[PAD{i}]") for i in ids])
    writer.add_token_types(kinds)
    merges = content["model"]["merges"]
    writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in merges])
    writer.add_bos_token_id(tokenizer.token_to_id(named["bos_token"]))
    writer.add_eos_token_id(tokenizer.token_to_id(named["eos_token"]))
    writer.add_chat_template(named["chat_template"])


def write_model(folder: Path, most_tensors: int = 0) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    tensors = load_file(folder / "model.safetensors")
    family = config["model_type"]
    writer = gguf.GGUFWriter(
        folder / "model.gguf", family, split_max_tensors=most_tensors
    )
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
        writer.add_rope_dimension_count(config["head_dim"])
    if scaling := config.get("rope_scaling"):
        writer.add_tensor("rope_freqs.weight", llama3_divisors(config, scaling))
    for name, weight in tensors.items():
        own = weight.astype(np.float32)
        if family == "llama" and ".q_proj." in name:
            own = alternating(own, heads)
        if family == "llama" and ".k_proj." in name:
            own = alternating(own, kv_heads)
        writer.add_tensor(their_name(name), own)
    rows = config["vocab_size"]
    if (folder / "tokenizer.json").exists():
        own = Tokenizer.from_file(str(folder / "tokenizer.json"))
        named = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        add_tokenizer(writer, own, "qwen2", rows, named)
    else:
        add_tokenizer(writer, trained("qwen2", rows - 8), "qwen2", rows)
    finish(writer)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def trained(variant: str, size: int, corpus: tuple[str, ...] = ()) -> Tokenizer:
    normalizer, steps = VARIANTS[variant]
    tokenizer = Tokenizer(models.BPE(ignore_merges=variant == "llama3"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre.Sequence(steps) if len(steps) > 1 else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([Path(__file__).read_text("utf-8"), *corpus], trainer)
    special = ("<|begin|>", "<|im_end|>", "<|end|>")
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in special]
    )
    tokenizer.add_tokens(
        [AddedToken(t, normalized=False) for t in ("<think>", "</think>")]
    )
    return tokenizer


def write_tokenizers(folder: Path) -> None:
    strings = (folder / "strings.jsonl").read_text("utf-8").split("\n")
    texts = [json.loads(line) for line in strings]
    for name, variant in PRE.items():
        tokenizer = trained(variant, 2000, tuple(texts[:1000]))
        writer = gguf.GGUFWriter(folder / f"{name}.gguf", "llama")
        add_tokenizer(writer, tokenizer, name, 0)
        writer.add_tensor("token_embd.weight", np.zeros((1, 32), np.float32))
        finish(writer)
        encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
        ids = [json.dumps(one.ids, separators=(",", ":")) for one in encoded]
        (folder / f"{name}.jsonl").write_text("\n".join(ids), "utf-8")


if __name__ == "__main__":
    command, *folders = sys.argv[1:]
    for folder in map(Path, folders):
        if command == "tokenizers":
            write_tokenizers(folder)
        else:
            write_model(folder, most_tensors=8 if command == "split" else 0)
