"""Configs and layer ranges: what is shipped is valid, what is wrong is named."""

import json

import pytest
from support import recipe

from trainer.make_models.stages import STAGES
from trainer.shared.failure import Failure
from trainer.shared.recipe import CONFIGS, check, layer_span, read_config

RECIPES = sorted(path for path in CONFIGS.glob("*.json") if path != STAGES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_config_is_valid(path):
    config = read_config(path, {}, num_layers=48)
    assert config.recipe.alpha == 16


@pytest.mark.parametrize("name, rate", [("tiny", 1e-3), ("method", 5e-5), ("r1-qwen-7b", 5e-5)])
def test_the_configs_hold_the_methods_values(name, rate):
    recipe = read_config(CONFIGS / f"{name}.json", {}).recipe
    assert (recipe.rank, recipe.alpha, recipe.dropout) == (1, 16, 0.05)
    assert (recipe.target_modules, recipe.layers) == (("up_proj",), "all")
    assert (recipe.weight_decay, recipe.epochs, recipe.learning_rate) == (1e-4, 10, rate)


def test_the_named_thirds_of_48_layers_are_the_papers():
    thirds = {name: layer_span(name, 48) for name in ("early", "middle", "late")}
    assert thirds == {"early": range(5, 21), "middle": range(17, 33), "late": range(25, 41)}


def test_a_range_counts_both_ends_and_all_is_all():
    assert layer_span("3-5", 8) == range(3, 6)
    assert layer_span("7", 8) == range(7, 8)
    assert layer_span("all", 8) == range(8)
    assert layer_span("middle", 8) == range(3, 6)


@pytest.mark.parametrize("layers", ["5-8", "5-3", "-1", "top", "1-2-3", ""])
def test_a_range_that_the_model_has_not_is_named(layers):
    with pytest.raises(Failure, match="layers must be all, early, middle, late or FIRST-LAST"):
        layer_span(layers, 8)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target_modules": ("up_porj",)}, "got up_porj; try --target-modules up_proj"),
        ({"rank": 0}, "rank must be between 1 and 4096; got 0; change --rank"),
        ({"learning_rate": 2.0}, "change --learning-rate"),
        ({"learning_rate": True}, "learning_rate must be between"),
        ({"mode": "half"}, "mode must be one of lora, full; got 'half'"),
        ({"reg": "col", "mode": "full"}, "reg penalises a low-rank update"),
        ({"max_length": 1}, "max_length must be between 2"),
    ],
)
def test_a_value_out_of_its_range_is_named_with_its_remedy(changes, message):
    with pytest.raises(Failure, match=message.replace(".", r"\.")):
        check(recipe(**changes))


def test_a_config_with_a_key_too_many_or_too_few_is_refused(tmp_path):
    values = json.loads((CONFIGS / "tiny.json").read_text())
    path = tmp_path / "mine.json"
    del values["rank"]
    values["rnak"] = 1
    path.write_text(json.dumps(values))
    with pytest.raises(Failure, match="missing or unknown: rank, rnak"):
        read_config(path, {})
    path.write_text("{\n  'mode': 1\n}")
    with pytest.raises(Failure, match=r"mine\.json:2: a config must be JSON"):
        read_config(path, {})


def test_flags_win_over_the_config():
    config = read_config(CONFIGS / "tiny.json", {"rank": 4, "alpha": None, "layers": "late"})
    assert (config.recipe.rank, config.recipe.alpha, config.recipe.layers) == (4, 16, "late")
