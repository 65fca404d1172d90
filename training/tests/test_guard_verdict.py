"""A verdict by the trainer's own pass is what transformers and PEFT compute at that position."""

import random

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from random_lora import lora_on

from trainer.fit.completion_loss import causal_model
from trainer.guard.carrier import BASE, Applied, Carrier, carried
from trainer.guard.example import Example, Mark, Marked
from trainer.guard.guard_folder import save_adapter
from trainer.guard.reading import read_texts
from trainer.guard.verdict import Tokens, full_pass_logits, verdict_logits
from trainer.make_models.reasoner import new_reasoner

GUARD, SAFE, UNSAFE = 700, 500, 600
TOKENS = Tokens(GUARD, SAFE, UNSAFE)
MODULES = ["q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def texts(count=3, seed=4):
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        ids = [rng.randrange(10, 400) for _ in range(rng.randint(6, 25))]
        cuts = sorted(rng.sample(range(1, len(ids) + 1), rng.randint(1, 3)))
        marks = tuple(Mark("output", cut, cut, False) for cut in cuts)
        rows.append(Marked(Example((("user", "x"),)), ids, marks))
    return rows


def guarded(model, modules=MODULES, **more):
    torch.manual_seed(9)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules=modules, init_lora_weights=False,
        **more,
    )  # fmt: skip
    return get_peft_model(model, config).eval()


def verdicts(model, rows, tokens=TOKENS, carrier=BASE):
    with carried(causal_model(model), carrier) as reader:
        reads = read_texts(reader, rows)
    with torch.no_grad():
        return verdict_logits(model, rows, reads, tokens)


def stock(model, row, mark, tokens=TOKENS):
    """Text up to the mark and GUARD, as a user of PEFT would run it."""
    ids = torch.tensor([row.ids[: mark.cut] + [tokens.guard] * tokens.suffix])
    with torch.no_grad():
        return model(input_ids=ids).logits[0, -1, [tokens.safe, tokens.unsafe]]


@pytest.mark.parametrize("modules", [MODULES, [*MODULES, "k_proj", "v_proj"]])
def test_a_verdict_equals_stock_peft_with_an_invocation_token(tokenizer, tmp_path, modules):
    rows = texts()
    model = guarded(new_reasoner(tokenizer, seed=3), modules)
    found = verdicts(model, rows)
    save_adapter(model, tmp_path / "guard", TOKENS)

    loaded = PeftModel.from_pretrained(new_reasoner(tokenizer, seed=3), tmp_path / "guard").eval()
    assert loaded.peft_config["default"].alora_invocation_tokens == [GUARD]
    for row, logits in zip(rows, found, strict=True):
        for mark, values in zip(row.marks, logits, strict=False):
            torch.testing.assert_close(values, stock(loaded, row, mark), rtol=1e-4, atol=1e-4)


def test_a_suffix_of_two_tokens_equals_stock_peft(tokenizer, tmp_path):
    rows, tokens = texts(2), Tokens(GUARD, SAFE, UNSAFE, suffix=2)
    model = guarded(new_reasoner(tokenizer, seed=3))
    found = verdicts(model, rows, tokens)
    save_adapter(model, tmp_path / "guard", tokens)
    loaded = PeftModel.from_pretrained(new_reasoner(tokenizer, seed=3), tmp_path / "guard").eval()
    for row, logits in zip(rows, found, strict=True):
        for mark, values in zip(row.marks, logits, strict=False):
            expected = stock(loaded, row, mark, tokens)
            torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4)


def test_a_full_pass_equals_stock_peft_without_an_invocation_token(tokenizer):
    rows = texts()
    model = guarded(new_reasoner(tokenizer, seed=3))
    with torch.no_grad():
        found = full_pass_logits(model, rows, TOKENS)
    for row, logits in zip(rows, found, strict=True):
        for mark, values in zip(row.marks, logits, strict=False):
            torch.testing.assert_close(values, stock(model, row, mark), rtol=1e-4, atol=1e-4)


def test_a_carriers_keys_and_values_are_those_of_its_merged_weights(base, tmp_path, tokenizer):
    """The guard's own token runs on the base and the guard, never on the carrier's adapter."""
    from transformers import AutoModelForCausalLM

    adapter = lora_on(base, tmp_path / "safety", rank=1, modules=["up_proj"])
    rows = texts(2)
    model = guarded(AutoModelForCausalLM.from_pretrained(base))
    before = {name: p.clone() for name, p in model.named_parameters()}
    found = verdicts(model, rows, carrier=Carrier((Applied(adapter, 0.5),)))
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]), name

    plain = AutoModelForCausalLM.from_pretrained(base)
    merged = PeftModel.from_pretrained(plain, adapter)
    for module in merged.modules():
        if isinstance(module, LoraLayer):  # an attention has a "scaling" of its own
            module.scaling = {name: 0.5 * value for name, value in module.scaling.items()}
    merged = merged.merge_and_unload().eval()
    for row, logits in zip(rows, found, strict=True):
        for mark, values in zip(row.marks, logits, strict=False):
            with torch.no_grad():
                past = merged(input_ids=torch.tensor([row.ids[: mark.cut]])).past_key_values
                token = torch.tensor([[GUARD]])
                out = model(input_ids=token, past_key_values=past).logits[0, -1]
            torch.testing.assert_close(values, out[[SAFE, UNSAFE]], rtol=1e-4, atol=1e-4)
    assert (verdicts(model, rows) - found).abs().max() > 1e-3


def test_what_stands_behind_a_mark_changes_nothing(tokenizer):
    model = guarded(new_reasoner(tokenizer, seed=3))
    row = texts(1)[0]
    cut = row.marks[0].cut
    short = Marked(row.example, row.ids[:cut], row.marks[:1])
    whole = verdicts(model, [row])[0, 0]
    torch.testing.assert_close(whole, verdicts(model, [short])[0, 0], rtol=1e-4, atol=1e-5)
