"""What the recipes save on must not show: a shared beginning changes no gradient and no token."""

import pytest
import torch
from support import recipe
from test_decoder import MODEL
from test_fit_gradients import assert_same, gradients, stock_gradients, trainable

from trainer.answer.decoder import Decoder
from trainer.fit.fit import Hardware
from trainer.recipes.detector import install, read, separation, solved
from trainer.recipes.shared_prefix import SharedPrefixRun, common_prefix, packed_behind
from trainer.shared.batches import Encoded
from trainer.shared.io import load_model

START = [5, 9, 12, 40, 8, 31, 77, 5, 6, 90, 14, 21, 33, 18, 70, 41, 52]


@pytest.fixture
def rows():
    rests = [([7, 3], [30, 31, 2]), ([50, 51, 52, 53], [6]), ([9], [10, 11, 12, 13, 2])]
    return [Encoded(START + prompt, completion) for prompt, completion in rests]


def test_the_common_beginning_leaves_one_token_of_each_prompt(rows):
    assert common_prefix(rows) == len(START)
    assert common_prefix([rows[0], Encoded(START, [1])]) == len(START) - 1
    assert common_prefix([rows[0], Encoded([1, 2], [1])]) == 0


def test_a_packed_row_sees_the_beginning_and_itself():
    packed = packed_behind([Encoded([1, 2, 3], [4]), Encoded([1, 2, 5], [6])], 2)
    inputs, labels, positions, mask = packed
    assert inputs.tolist() == [[1, 2, 3, 4, 5, 6]]
    assert labels.tolist() == [[-100, -100, -100, 4, -100, 6]]
    assert positions.tolist() == [[0, 1, 2, 3, 2, 3]]
    assert (mask[0, 0, 5] == 0).tolist() == [True, True, False, False, True, True]
    assert (mask[0, 0, 3] == 0).tolist() == [True, True, True, True, False, False]


@pytest.mark.parametrize("layers", ["all", "middle"])
def test_gradients_behind_a_shared_beginning_equal_stock_peft(layers, model, rows, tokenizer):
    ours = recipe(layers=layers)
    wanted = stock_gradients(trainable(model, ours), rows, tokenizer.pad_token_id)
    run = SharedPrefixRun(
        trainable(model, ours), rows, ours, tokenizer.pad_token_id, 1, None, Hardware(cpu=True)
    )
    run.loss.train()
    run.one_step(range(len(rows)))
    assert (run.cache is None) == (layers == "all")
    assert_same(gradients(run.plain_loss.model), wanted)


def test_tokens_after_a_shared_beginning_are_those_of_each_prompt_alone():
    model, _ = load_model(MODEL)
    decoder = Decoder(model.config, model.state_dict())
    prompts = [START + rest for rest in ([7, 3], [50, 51, 52, 53], [9])]
    together = decoder.write(prompts, eos_id=-1, limit=6)
    assert together == [decoder.write([prompt], eos_id=-1, limit=6)[0] for prompt in prompts]


def test_a_detector_fires_where_the_answers_to_harmful_prompts_begin(model):
    harmful = [Encoded([*START, 60, word, 4], []) for word in range(100, 110)]
    harmless = [Encoded([*START, 61, word, 3], []) for word in range(100, 110)]
    readings = read(model, harmful + harmless)
    is_harmful = torch.arange(20) < 10
    a = solved(readings, is_harmful, ridge=1e-3)
    assert a.shape == (model.config.num_hidden_layers, model.config.hidden_size)
    assert min(separation(a, readings.ends, is_harmful)) == 1.0
    assert separation(-a, readings.ends, is_harmful)[0] == 0.0


@pytest.mark.parametrize("is_trained", [False, True])
def test_an_installed_detector_is_the_adapters_a(is_trained, model):
    adapted = trainable(model, recipe(layers="middle"))
    a = torch.randn(model.config.num_hidden_layers, model.config.hidden_size)
    install(adapted, a, is_trained=is_trained)
    found = {name: p for name, p in adapted.named_parameters() if "lora_A" in name}
    assert found
    for name, parameter in found.items():
        layer = int(name.split(".layers.")[1].split(".")[0])
        assert torch.equal(parameter, a[layer][None])
        assert parameter.requires_grad == is_trained
