"""What fit saves on must not show: its gradients are those of stock PEFT on the padded batch.

float32; the same sums are taken in another order, so a gradient may differ by a few roundings. The
tolerance is a share of each gradient's norm.
"""

import copy

import pytest
import torch

from trainer.fit import completion_loss
from trainer.fit.adapter import prepared, trained_parameters
from trainer.fit.fit import Hardware, Run
from trainer.shared.batches import Encoded, collate
from trainer.shared.recipe import MODULES, Recipe

# Of float32: with AVX-512 two orders of summation differ by up to 1.2e-5.
TOLERANCE = 5e-5
LENGTHS = [(3, 9), (25, 4), (11, 1), (7, 30), (8, 8), (40, 12)]  # prompt, completion
CASES = {
    "up_proj of the middle layers": {"target_modules": ("up_proj",), "layers": "middle"},
    "every module of every layer": {"target_modules": MODULES, "layers": "all", "rank": 3},
    "every module of the last layers": {"target_modules": MODULES, "layers": "6-7"},
    "all weights": {"mode": "full"},
}


def recipe_of(**values):
    ours = {
        "mode": "lora",
        "rank": 1,
        "alpha": 16,
        "dropout": 0.0,
        "target_modules": ("up_proj",),
        "layers": "middle",
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "epochs": 1,
        "batch_size": 2,
        "grad_accum": 3,
        "max_length": None,
        "dtype": "auto",
        "reg": "none",
        "beta": 1.0,
    }
    return Recipe(**ours | values)


@pytest.fixture
def rows(tokenizer):
    generator = torch.Generator().manual_seed(5)

    def draw(count):
        return torch.randint(3, len(tokenizer), (count,), generator=generator).tolist()

    return [Encoded(draw(prompt), draw(completion)) for prompt, completion in LENGTHS]


def trainable(model, recipe):
    """B starts at zero, where A has no gradient; here it does not."""
    found = prepared(copy.deepcopy(model), recipe, "random", seed=2)
    generator = torch.Generator().manual_seed(4)
    for name, parameter in trained_parameters(found).items():
        if "lora_B" in name:
            parameter.data.normal_(0.0, 0.02, generator=generator)
    return found


def model_layers(model):
    return completion_loss.causal_model(model).model.layers


def gradients(model):
    return {name: p.grad.clone() for name, p in trained_parameters(model).items()}


def stock_gradients(model, rows, pad_id):
    batch = collate(rows, pad_id)
    lengths = torch.tensor([[len(row)] for row in rows])
    mask = (torch.arange(batch.inputs.shape[1]) < lengths).long()
    model.train()
    model(input_ids=batch.inputs, attention_mask=mask, labels=batch.labels).loss.backward()
    return gradients(model)


def fit_gradients(model, rows, recipe, pad_id, hardware=None, folder=None):
    run = Run(model, rows, recipe, pad_id, 1, folder, hardware or Hardware(cpu=True))
    run.loss.train()
    run.one_step(range(len(rows)))
    return gradients(model), run


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        difference = (found[name] - gradient).norm() / gradient.norm()
        assert gradient.norm() > 0, name
        assert difference < TOLERANCE, f"{name}: {difference:.2g}"


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_ragged_rows_equal_stock_peft(case, model, rows, tokenizer):
    recipe = recipe_of(**CASES[case])
    wanted = stock_gradients(trainable(model, recipe), rows, tokenizer.pad_token_id)
    found, _ = fit_gradients(trainable(model, recipe), rows, recipe, tokenizer.pad_token_id)
    assert_same(found, wanted)


@pytest.mark.parametrize("case", ["up_proj of the middle layers", "all weights"])
def test_logits_in_pieces_of_five_tokens_give_the_same_gradients(
    case, model, rows, tokenizer, monkeypatch
):
    recipe = recipe_of(**CASES[case])
    wanted = stock_gradients(trainable(model, recipe), rows, tokenizer.pad_token_id)
    for name in ("LOGITS_AT_ONCE", "FROZEN_LOGITS_AT_ONCE"):
        monkeypatch.setattr(completion_loss, name, 5 * len(tokenizer))
    found, _ = fit_gradients(trainable(model, recipe), rows, recipe, tokenizer.pad_token_id)
    assert_same(found, wanted)


@pytest.mark.parametrize("case", ["up_proj of the middle layers", "all weights"])
def test_activations_computed_twice_give_the_same_gradients(case, model, rows, tokenizer):
    recipe = recipe_of(**CASES[case])
    pad_id = tokenizer.pad_token_id
    wanted = stock_gradients(trainable(model, recipe), rows, pad_id)
    hardware = Hardware(cpu=True, gradient_checkpointing=True)
    adapted = trainable(model, recipe)
    last_mlp = model_layers(adapted)[-1].mlp
    calls = []
    last_mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    found, run = fit_gradients(adapted, rows, recipe, pad_id, hardware)
    assert len(calls) == 2 * len(run.groups(range(len(rows))))
    assert_same(found, wanted)


@pytest.mark.parametrize("sizes", [(1, 6), (2, 3), (3, 2), (6, 1)])
def test_rows_put_through_one_by_one_or_together_give_the_same_gradients(
    sizes, model, rows, tokenizer
):
    at_once, passes = sizes
    recipe = recipe_of(batch_size=at_once, grad_accum=passes)
    wanted = stock_gradients(trainable(model, recipe), rows, tokenizer.pad_token_id)
    found, run = fit_gradients(trainable(model, recipe), rows, recipe, tokenizer.pad_token_id)
    groups = run.groups(range(len(rows)))
    assert max(len(group) for group in groups) <= at_once
    assert_same(found, wanted)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("case", ["up_proj of the middle layers", "all weights"])
def test_examples_packed_into_one_row_give_the_same_gradients(
    case, attention, model, rows, tokenizer, monkeypatch
):
    recipe = recipe_of(**CASES[case], batch_size=6, grad_accum=1)
    model.set_attn_implementation(attention)
    wanted = stock_gradients(trainable(model, recipe), rows, tokenizer.pad_token_id)
    monkeypatch.setattr("trainer.fit.fit.pack_tokens", lambda model: 1000)
    shapes = []
    original = completion_loss.CompletionLoss.forward

    def watched(self, inputs, *rest):
        shapes.append(tuple(inputs.shape))
        return original(self, inputs, *rest)

    monkeypatch.setattr(completion_loss.CompletionLoss, "forward", watched)
    found, _ = fit_gradients(trainable(model, recipe), rows, recipe, tokenizer.pad_token_id)
    assert shapes == [(1, sum(map(sum, LENGTHS)))]
    assert_same(found, wanted)


@pytest.mark.parametrize("kept", ["in memory", "on disk", "half of the rows"])
def test_the_prefix_cache_changes_no_gradient(kept, model, rows, tokenizer, tmp_path):
    recipe = recipe_of()
    pad_id = tokenizer.pad_token_id
    off = Hardware(cpu=True, prefix_cache="off")
    wanted, plain = fit_gradients(trainable(model, recipe), rows, recipe, pad_id, off)
    assert plain.cache is None
    row_bytes = model.config.hidden_size * 4
    hardware = Hardware(
        cpu=True,
        prefix_cache="disk" if kept == "on disk" else "memory",
        cache_bytes=70 * row_bytes if kept == "half of the rows" else 1 << 30,
    )
    adapted = trainable(model, recipe)
    found, run = fit_gradients(adapted, rows, recipe, pad_id, hardware, tmp_path)
    cached = [start for start in run.cache.starts if start is not None]
    assert len(cached) == (4 if kept == "half of the rows" else len(rows))
    assert (tmp_path / "prefix-0.bin").is_file() == (kept == "on disk")
    assert_same(found, wanted)


def test_below_the_first_adapted_layer_nothing_is_computed_once_it_is_cached(
    model, rows, tokenizer
):
    recipe = recipe_of()
    adapted = trainable(model, recipe)
    run = Run(adapted, rows, recipe, tokenizer.pad_token_id, 1, None, Hardware(cpu=True))
    calls = []
    for index, layer in enumerate(model_layers(adapted)):
        # Not on the layer: the last one is not called as a whole.
        norm = layer.input_layernorm
        norm.register_forward_pre_hook(lambda *_, index=index: calls.append(index))
    run.one_step(range(len(rows)))
    assert set(calls) == set(range(3, 8))


def test_the_last_mlp_computes_completions_only(model, rows, tokenizer):
    adapted = trainable(model, recipe_of())
    run = Run(adapted, rows, recipe_of(), tokenizer.pad_token_id, 1, None, Hardware(cpu=True))
    counts = {}
    for index, layer in enumerate(model_layers(adapted)):
        layer.mlp.register_forward_pre_hook(
            lambda _, inputs, index=index: counts.update(
                {index: counts.get(index, 0) + inputs[0].shape[:-1].numel()}
            )
        )
    run.one_step(range(len(rows)))
    assert counts[7] == sum(len(row.completion) for row in rows)
    assert counts[6] >= sum(len(row) for row in rows)
