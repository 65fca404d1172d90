"""A small byte-level BPE tokenizer with DeepSeek-R1's special tokens and a Qwen-like pre-tokenizer.

Each digit is a token of its own; all 256 bytes are in the vocabulary, so any text can be encoded.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
USER = "<｜User｜>"
ASSISTANT = "<｜Assistant｜>"
THINK = "<think>"
END_THINK = "</think>"
# R1 marks only these as special (hidden when text is decoded); the others are plain added tokens.
HIDDEN_TOKENS = (EOS, BOS)
SHOWN_TOKENS = (
    USER,
    ASSISTANT,
    THINK,
    END_THINK,
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
)
# Letters with at most one leading character, single digits, punctuation, line ends, other space.
PRETOKEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def chat_template() -> str:
    return (files("trainer.make_models") / "chat_template.jinja").read_text(encoding="utf-8")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """`vocab_size` counts everything: bytes, merges and the 15 added tokens."""
    core = Tokenizer(models.BPE())
    # transformers composes decomposed text for this architecture, whatever the file says.
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size - len(HIDDEN_TOKENS) - len(SHOWN_TOKENS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    core.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in HIDDEN_TOKENS])
    core.add_tokens([AddedToken(t, normalized=False, special=False) for t in SHOWN_TOKENS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.chat_template = chat_template()
    return tokenizer
