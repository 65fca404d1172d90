"""Trains two small byte-level BPE tokenizers (Qwen2's and Llama 3's ways of splitting) and writes
what transformers makes of many strings: token ids, prompts, chats and decoded text.

    python tokenizer_reference.py OUTPUT_FOLDER
"""

import json
import random
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LLAMA_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_SPLIT = LLAMA_SPLIT.replace("{1,3}", "")
BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
MARKERS = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
TEMPLATE = """{% set ns = namespace(system='') %}{% for m in messages %}{% if m['role'] == 'system' %}\
{% set ns.system = m['content'] %}{% endif %}{% endfor %}{{ bos_token }}{{ ns.system }}\
{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}\
{% elif m['role'] == 'assistant' %}{% set text = m['content'] %}{% if '</think>' in text %}\
{% set text = text.split('</think>')[-1] %}{% endif %}\
{{ '<｜Assistant｜>' + text + eos_token }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"""

STRINGS = [
    "", "a", " ", "Hello world", "  two  spaces ", "\n\n\n a \r\n b", "x" * 3000, " " * 5000,
    " " * 5000 + "a", "\t \n" * 300, "12345678901234", "0 1 23 456", "héllo wörld",
    "e\u0301 cafe\u0301", "👨‍👩‍👧‍👦 🏳️‍🌈 😀", "👨‍👩‍👧" * 500, "\u0000abc\u0000", "\x01\x02\x7f",
    "你好，世界。", "مرحبا بالعالم", "नमस्ते", "İstanbul ſ K Å", "I'LL we'Ve don't 'S ſ's",
    "\u00a0nbsp\u2003em\u3000ide", "\ufeffbom", "\u200b\u200d\ufe0f", "½ ² Ⅷ ٣", "𝕳𝖊𝖑𝖑𝖔 𝟙𝟚",
    "...!!!???\n\n", "   \n   \n x", "\u2028line\u2029para", "foo_bar-baz  (x)=y;{}[]\\/",
    "\u1100\u1161\u11a8 가", "\u0f71\u0f72\u0f74", "a<b <thin k> < think>",
]
MARKED = ["<think>x</think>", "a<｜User｜>b" + EOS, BOS + BOS, "<｜User｜" + "｜>"]


def make(split: str, normalizer, adds_bos: bool, ignore_merges: bool, corpus: list[str]):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (BOS, EOS)])
    tokenizer.add_tokens([AddedToken(t, normalized=t == "<｜User｜>") for t in MARKERS])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if adds_bos:
        bos = (BOS, tokenizer.token_to_id(BOS))
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[bos]),
        ])
    return tokenizer


def random_strings(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    ranges = [(0x20, 0x250), (0x300, 0x370), (0x600, 0x660), (0x900, 0x950), (0x2000, 0x2070),
              (0x4E00, 0x4E40), (0xAC00, 0xAC40), (0x1F600, 0x1F640)]
    pool = [chr(c) for low, high in ranges for c in range(low, high)]
    pool += [" "] * 60 + ["\n"] * 20 + ["'"] * 8 + list("etaoinshrdlu") * 6
    return ["".join(rng.choices(pool, k=rng.randint(1, 60))) for _ in range(count)]


def main() -> None:
    output = Path(sys.argv[1])
    source = Path(__file__).read_text(encoding="utf8")
    corpus = [source, *STRINGS, *random_strings(1, 400)]
    variants = {
        "llama": make(LLAMA_SPLIT, None, True, True, corpus),
        "qwen": make(QWEN_SPLIT, normalizers.NFC(), False, False, corpus),
    }
    strings = STRINGS + random_strings(2, 600)
    for name, tokenizer in variants.items():
        folder = output / name
        folder.mkdir(parents=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        config = {"bos_token": BOS, "eos_token": EOS, "chat_template": TEMPLATE}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf8")
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS)
        fast.chat_template = TEMPLATE
        chats = [[{"role": "user", "content": s}] for s in strings if s]
        chats.append([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"},
            {"role": "user", "content": "Sure?"},
        ])
        cases = {
            "texts": [
                {
                    "text": text,
                    "ids": tokenizer.encode(text, add_special_tokens=False).ids,
                    "prompt": fast(text)["input_ids"],
                    "decoded": fast.decode(fast(text)["input_ids"]),
                }
                for text in strings + MARKED
            ],
            "chats": [
                {
                    "messages": messages,
                    "ids": fast.apply_chat_template(
                        messages, tokenize=True, add_generation_prompt=True, return_dict=False
                    ),
                }
                for messages in chats
            ],
        }
        (folder / "cases.json").write_text(json.dumps(cases), encoding="utf8")


main()
