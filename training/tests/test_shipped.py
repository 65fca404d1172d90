"""The committed checkpoint and adapters are what they claim to be."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from transformers import AutoTokenizer

from trainer.make_models.tokenizer import chat_template
from trainer.weights.base_digest import base_digest
from trainer.weights.lora_folder import adapter_digest

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "tiny-reasoner"
EVERY = sorted(path.parent for path in (ROOT / "adapters").glob("*/adapter_config.json"))
GUARDS = [folder for folder in EVERY if "guard" in folder.name]
OTHERS = [f for f in EVERY if f.name.startswith("smollm2-") and f not in GUARDS]
ADAPTERS = [folder for folder in EVERY if folder not in OTHERS and folder not in GUARDS]
LAYERS, HIDDEN, INTERMEDIATE = 8, 128, 384


def test_three_adapters_ship():
    assert {path.name for path in ADAPTERS} == {"safety-r1", "safety-r1-paper", "terse-r1"}


def test_three_adapters_of_a_real_model_ship():
    names = ("smollm2-safety-r1", "smollm2-safety-r1-paper", "smollm2-safety-r1-scenes")
    assert {path.name for path in OTHERS} == set(names)


def test_one_guard_of_the_embedded_model_ships():
    assert [path.name for path in GUARDS] == ["guard-r16"]


@pytest.mark.parametrize("folder", GUARDS, ids=lambda path: path.name)
def test_a_guard_names_its_tokens_its_base_and_the_carriers_it_was_measured_on(folder):
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    guard, config = manifest["guard"], json.loads((folder / "adapter_config.json").read_text())
    assert manifest["kind"] == "guard"
    assert config["alora_invocation_tokens"] == [guard["token"]]
    assert config["r"] <= 16
    assert len({guard["token"], *guard["labels"].values()}) == 3
    digests = {adapter_digest(path) for path in EVERY}
    assert guard["carriers"][0]["adapters"] == []
    for carrier in guard["carriers"]:
        assert {a["digest"] for a in carrier["adapters"]} <= digests
        assert 0.5 <= carrier["threshold"] < 1
        assert carrier["n"] > 100
    tensors = load_file(folder / "adapter_model.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    weight = load_file(folder / "probe.safetensors")[guard["probe"]["tensor"]]
    assert weight.shape == (1, next(t.shape[1] for k, t in tensors.items() if "q_proj.lora_A" in k))


@pytest.mark.parametrize("folder", OTHERS, ids=lambda path: path.name)
def test_an_adapter_of_the_real_model_is_rank_one_on_up_proj_and_names_its_file(folder):
    tensors = load_file(folder / "adapter_model.safetensors")
    assert tensors
    for key, tensor in tensors.items():
        assert "mlp.up_proj" in key
        assert tensor.shape == ((1, 576) if "lora_A" in key else (1536, 1))
        assert tensor.isfinite().all()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["base_model"] == "SmolLM2-135M-Instruct"
    assert manifest["base_digest"].startswith("b179c9523d0e")


def test_the_checkpoint_is_the_shape_its_card_states():
    config = json.loads((MODEL / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert (config["num_hidden_layers"], config["hidden_size"]) == (LAYERS, HIDDEN)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (4, 2)
    assert config["rope_theta"] == 10000.0
    tensors = load_file(MODEL / "model.safetensors")
    assert tensors["model.embed_tokens.weight"].shape == (config["vocab_size"], HIDDEN)
    assert "lm_head.weight" not in tensors
    generation = json.loads((MODEL / "generation_config.json").read_text())
    assert (generation["temperature"], generation["top_p"]) == (0.6, 0.95)


def test_the_template_is_the_trainers_in_both_places():
    settings = json.loads((MODEL / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == chat_template()
    assert AutoTokenizer.from_pretrained(MODEL).chat_template == chat_template()


@pytest.mark.parametrize("folder", ADAPTERS, ids=lambda path: path.name)
def test_an_adapter_is_rank_one_on_up_proj_of_every_layer(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (1, 16, ["up_proj"])
    assert config["base_model_name_or_path"] == "models/tiny-reasoner"
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 2 * LAYERS
    for key, tensor in tensors.items():
        assert tensor.shape == ((1, HIDDEN) if "lora_A" in key else (INTERMEDIATE, 1))
        assert tensor.isfinite().all()


@pytest.mark.parametrize("folder", ADAPTERS, ids=lambda path: path.name)
def test_an_adapter_was_trained_on_the_checkpoint_beside_it(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["base_digest"] == base_digest(MODEL)
    assert manifest["recommended_strength"] == 1.0


def test_no_committed_file_names_a_path_of_a_machine():
    for folder in (MODEL, *EVERY):
        for path in folder.iterdir():
            if path.suffix in (".json", ".md", ".jinja"):
                text = path.read_text(encoding="utf-8")
                assert not any(mark in text for mark in ("/work/", "/home/", "/tmp/")), path
