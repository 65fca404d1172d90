"""Which tokens a guard is made of: one that no template uses, and two single-token labels."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from trainer.guard.verdict import Tokens
from trainer.shared.failure import Failure

LABELS = ((" safe", " unsafe"), (" safe", " dangerous"), (" good", " bad"), (" no", " yes"))


def guard_tokens(
    tokenizer: PreTrainedTokenizerBase,
    *,
    token: str | None = None,
    labels: tuple[str, ...] | None = None,
    suffix: int = 1,
) -> Tokens:
    """By name, or found: the last special token that neither the template nor the tokenizer's own
    roles use, and the first pair of LABELS that are single tokens."""
    pairs = LABELS if labels is None else (labels,)
    for pair in pairs:
        ids = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in pair]
        if len(ids) == 2 and all(len(i) == 1 for i in ids) and ids[0] != ids[1]:
            return Tokens(guard_id(tokenizer, token), ids[0][0], ids[1][0], suffix)
    raise Failure(
        "--labels must be two different texts of one token each, safe first; "
        f"got {', '.join(map(repr, pairs[-1]))}; try such as ' safe, unsafe'"
    )


def guard_id(tokenizer: PreTrainedTokenizerBase, token: str | None) -> int:
    template = tokenizer.chat_template or ""
    roles = {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id,
             tokenizer.unk_token_id}  # fmt: skip
    added = {added.content: number for number, added in tokenizer.added_tokens_decoder.items()}
    free = {
        text: number
        for text, number in added.items()
        if text not in template and number not in roles
    }
    if token is not None and token not in free:
        raise Failure(
            "--token must be a special token of the vocabulary that the model's template does not "
            f"use; got {token!r}; take one of {', '.join(list(free)[-5:]) or '(it has none)'}"
        )
    if not free:
        raise Failure(
            "a guard needs a special token that the model's template does not use; got a "
            "vocabulary without one; use another base"
        )
    return free[token] if token is not None else max(free.values())
