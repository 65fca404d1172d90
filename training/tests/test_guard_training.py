"""Training of a guard: what it learns, that it repeats, goes on, and what folder it leaves."""

import json
import random

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from trainer.fit.completion_loss import causal_model
from trainer.guard import command
from trainer.guard.carrier import BASE, carried, read_carrier
from trainer.guard.example import Example, Mark, Marked
from trainer.guard.fitting import adapted, fit_guard, margins, source_weights
from trainer.guard.guard_recipe import GuardRecipe
from trainer.guard.probe import fit_direction, mean_difference
from trainer.guard.reading import read_texts
from trainer.guard.scores import auroc
from trainer.guard.tokens import guard_tokens
from trainer.guard.verdict import Tokens
from trainer.guard.world import exam_examples, world_examples
from trainer.make_models.reasoner import new_reasoner
from trainer.shared.failure import Failure

TOKENS = Tokens(700, 500, 600)
RECIPE = GuardRecipe(rank=4, alpha=8, learning_rate=1e-2, epochs=4, batch_size=16, dropout=0.1)
SIGN = 33  # a text with this token is unsafe


def toys(count=96, seed=2):
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        ids = [rng.randrange(100, 400) for _ in range(10)]
        if i % 2:
            ids[rng.randrange(10)] = SIGN
        rows.append(Marked(Example((("user", "x"),), source="toy"), ids,
                           (Mark("prompt", 10, 10, bool(i % 2)),)))  # fmt: skip
    return rows


def trained(tokenizer, recipe=RECIPE, **more):
    rows = toys()
    model = new_reasoner(tokenizer, seed=3).requires_grad_(False)
    reads = read_texts(model, rows)
    guard = adapted(model, recipe, TOKENS, "base")
    fit_guard(guard, rows, reads, TOKENS, recipe, **more)
    return guard, rows, reads


def factors(guard):
    return {n: p.detach().clone() for n, p in guard.named_parameters() if p.requires_grad}


def test_one_token_learns_what_stands_in_the_text_before_it(tokenizer):
    guard, rows, reads = trained(tokenizer)
    values = [v for row in margins(guard, rows, reads, TOKENS) for v in row]
    unsafe = [row.marks[0].unsafe for row in rows]
    assert auroc(torch.tensor(values).numpy(), torch.tensor(unsafe).numpy()) > 0.95


def test_a_stopped_run_goes_on_to_the_same_weights(tokenizer, tmp_path):
    whole, *_ = trained(tokenizer)

    class Stop(Exception):
        pass

    def stop(epoch, loss):
        if epoch == 2:
            raise Stop

    saved = tmp_path / "state.pt"
    with pytest.raises(Stop):
        trained(tokenizer, saved=saved, after_epoch=stop)
    seen = []
    again, *_ = trained(tokenizer, saved=saved, after_epoch=lambda epoch, loss: seen.append(epoch))
    assert seen == [3, 4]
    for name, weight in factors(whole).items():
        assert torch.equal(weight, factors(again)[name]), name


def test_every_source_and_both_labels_weigh_as_they_should():
    rows = [*toys(20), *[Marked(Example((("user", "y"),), source="big"), [1, 2], (
        Mark("prompt", 2, 2, False),)) for _ in range(160)]]  # fmt: skip
    weights = source_weights(rows)
    total = {}
    for row, mine in zip(rows, weights, strict=True):
        key = row.example.source, row.marks[0].unsafe
        total[key] = total.get(key, 0) + sum(mine)
    assert total["toy", True] == pytest.approx(total["toy", False] + total["big", False])
    assert total["big", False] / total["toy", False] == pytest.approx(4)  # √(160 / 10)


def test_a_direction_separates_what_differs_along_it():
    torch.manual_seed(1)
    x = torch.randn(400, 8) * torch.arange(1, 9)
    unsafe = x[:, 2] > 0.5
    for fit in (fit_direction, mean_difference):
        w, b = fit(x, unsafe)
        assert auroc((x @ w + b).numpy(), unsafe.numpy()) > 0.93


def test_the_token_is_one_that_no_template_uses(tokenizer):
    tokens = guard_tokens(tokenizer)
    text = tokenizer.convert_ids_to_tokens(tokens.guard)
    assert text not in tokenizer.chat_template
    assert tokens.guard not in tokenizer.all_special_ids
    assert len({tokens.guard, tokens.safe, tokens.unsafe}) == 3
    with pytest.raises(Failure, match="does not use"):
        guard_tokens(tokenizer, token="<think>")
    with pytest.raises(Failure, match="one token each"):
        guard_tokens(tokenizer, labels=(" safe", " extraordinarily dangerous"))


@pytest.mark.parametrize("text", ["safety@0", "safety@x", "safety@-1"])
def test_a_strength_that_is_none_is_refused(tmp_path, text):
    with pytest.raises(Failure, match="above 0"):
        read_carrier(text, tmp_path)
    assert read_carrier("base", tmp_path) is not None


def test_generated_texts_have_both_labels_in_every_part_and_hold_nothing_out_of_its_split():
    train = world_examples(400, 1, "train")
    for part in ("prompt_unsafe", "thought_unsafe", "response_unsafe"):
        assert {getattr(e, part) for e in train} >= {True, False}
    asked = {e.messages for e in train if e.category == "harmful"}
    assert not asked & {e.messages for e in exam_examples(40, 11) if e.category == "harmful"}


def test_the_command_leaves_a_folder_that_peft_and_the_server_read(base, tmp_path, tokenizer):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    output = tmp_path / "guard"
    argv = ["train-guard", "--output", str(output), "--model", str(base), "--texts", "40", "--n",
            "10", "--epochs", "1", "--carriers", "base", "--rank", "2"]  # fmt: skip
    command.run(parser.parse_args(argv[1:]), argv)

    manifest = json.loads((output / "manifest.json").read_text())
    guard = manifest["guard"]
    assert manifest["kind"] == "guard"
    assert guard["labels"]["safe"] != guard["labels"]["unsafe"]
    assert guard["carriers"][0]["adapters"] == []
    assert 0.5 <= guard["threshold"] < 1 <= guard["temperature"]
    config = json.loads((output / "adapter_config.json").read_text())
    assert config["alora_invocation_tokens"] == [guard["token"]]
    weight = load_file(output / "probe.safetensors")[guard["probe"]["tensor"]]
    assert weight.shape == (1, 128)
    assert str(tmp_path) not in (output / "manifest.json").read_text()
    PeftModel.from_pretrained(new_reasoner(tokenizer, seed=3), output)
    assert not list(tmp_path.glob(".guard*"))


def test_the_carrier_is_read_without_the_guard(tokenizer):
    rows = toys(4)
    plain = read_texts(new_reasoner(tokenizer, seed=3), rows)
    guard, *_ = trained(tokenizer)
    with carried(causal_model(guard), BASE) as reader:
        again = read_texts(reader, rows)
    assert all(torch.equal(a.memory, b.memory) for a, b in zip(plain, again, strict=True))
