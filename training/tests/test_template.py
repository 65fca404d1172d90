"""The tokenizer and the chat template behave as R1-Distill's."""

from trainer.make_models.tokenizer import ASSISTANT, BOS, END_THINK, EOS, THINK, USER
from trainer.shared.batches import IGNORED, Pair, collate, encode_pairs


def render(tokenizer, *messages, prompt=True):
    chat = [{"role": role, "content": content} for role, content in messages]
    return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)


def test_the_template_gives_one_bos_then_the_system_message(tokenizer):
    text = render(tokenizer, ("system", "Be kind."), ("user", "Hi"))
    assert text == f"{BOS}Be kind.{USER}Hi{ASSISTANT}{THINK}\n"


def test_the_last_system_message_wins(tokenizer):
    text = render(tokenizer, ("system", "A"), ("user", "Hi"), ("system", "B"))
    assert text.startswith(f"{BOS}B{USER}")


def test_thoughts_are_stripped_from_history(tokenizer):
    text = render(
        tokenizer, ("user", "1"), ("assistant", "secret</think>\n\nanswer"), ("user", "2")
    )
    assert text == f"{BOS}{USER}1{ASSISTANT}\n\nanswer{EOS}{USER}2{ASSISTANT}{THINK}\n"


def test_encoding_does_not_add_a_second_bos(tokenizer):
    ids = tokenizer(render(tokenizer, ("user", "Hi")), add_special_tokens=True)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1


def test_each_digit_is_a_token_and_any_text_survives(tokenizer):
    assert len(tokenizer.encode("907", add_special_tokens=False)) == 3
    for text in ("naïve 東京 🦆\u200d", "tab\tand\r\nlines", "\x00\x7f", "  spaces  "):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_the_marks_are_single_tokens(tokenizer):
    for mark in (BOS, EOS, USER, ASSISTANT, THINK, END_THINK):
        assert len(tokenizer.encode(mark, add_special_tokens=False)) == 1


def test_decoding_hides_eos_but_not_the_end_of_thought(tokenizer):
    ids = tokenizer.encode(f"a\n{END_THINK}\n\nb{EOS}", add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == f"a\n{END_THINK}\n\nb"


def test_the_loss_covers_the_completion_and_its_eos_only(tokenizer):
    pairs = [
        Pair((("user", "Hi"),), "x\n</think>\n\nHello!"),
        Pair((("user", "What is 12 + 5?"),), "17"),
    ]
    rows = encode_pairs(tokenizer, pairs)
    batch = collate(rows, tokenizer.pad_token_id)
    for row, labels, inputs in zip(rows, batch.labels, batch.inputs, strict=True):
        counted = labels[labels != IGNORED].tolist()
        assert counted == row.completion
        assert counted[-1] == tokenizer.eos_token_id
        assert (labels[: len(row.prompt)] == IGNORED).all()
        assert (labels[len(row) :] == IGNORED).all()
        assert inputs[: len(row)].tolist() == row.prompt + row.completion
