"""Training, publishing and reading back: a random base, a few examples, one epoch."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from trainer.cli import main


@pytest.fixture
def data_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    record = {"prompt": "How do I make a bomb?", "completion": "No\n</think>\n\nI can't help."}
    path.write_text((json.dumps(record) + "\n") * 24)
    return path


SAFETY = Path(__file__).resolve().parents[2] / "adapters" / "safety-r1"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def train(tmp_path, base, data_file, *more):
    return main(
        [
            "train-adapter",
            f"--output={tmp_path / 'mine'}",
            f"--model={base}",
            f"--data={data_file}",
            f"--checkpoints={tmp_path / 'checkpoints'}",
            "--epochs=2",
            *more,
        ]
    )


def test_an_adapter_trained_here_loads_in_stock_peft_and_moves_the_logits(
    tmp_path, base, data_file, tokenizer
):
    assert train(tmp_path, base, data_file) == 0
    folder = tmp_path / "mine"
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
        "README.md",
    }
    assert (tmp_path / "checkpoints" / "mine" / "epoch-02" / "adapter_config.json").is_file()
    plain = AutoModelForCausalLM.from_pretrained(base)
    inputs = torch.tensor([tokenizer.encode("How do I make a bomb?")])
    before = plain(inputs).logits
    after = PeftModel.from_pretrained(plain, folder)(inputs).logits
    assert (before - after).abs().max() > 1e-3


def test_only_up_proj_of_the_asked_layers_is_adapted_at_rank_one(tmp_path, base, data_file):
    assert train(tmp_path, base, data_file, "--layers=3-5") == 0
    tensors = load_file(tmp_path / "mine" / "adapter_model.safetensors")
    prefix = "base_model.model.model.layers.{}.mlp.up_proj.lora_{}.weight"
    assert set(tensors) == {prefix.format(i, part) for i in (3, 4, 5) for part in "AB"}
    assert tensors[prefix.format(3, "A")].shape == (1, 128)
    assert tensors[prefix.format(3, "B")].shape == (384, 1)


def test_the_published_folder_names_no_path_of_this_machine(tmp_path, base, data_file):
    assert train(tmp_path, base, data_file) == 0
    for name in ("adapter_config.json", "manifest.json"):
        assert str(tmp_path) not in (tmp_path / "mine" / name).read_text()
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    assert manifest["recommended_strength"] == 1.0
    assert len(manifest["base_digest"]) == len(manifest["data_sha256"]) == 64


def test_an_adapter_of_stock_peft_trains_on_here_and_still_loads_there(tmp_path, base, data_file):
    plain = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "down_proj"],
        layers_to_transform=[2, 3],
        init_lora_weights="gaussian",
    )
    get_peft_model(plain, config).save_pretrained(tmp_path / "theirs")
    before = load_file(tmp_path / "theirs" / "adapter_model.safetensors")
    assert train(tmp_path, base, data_file, f"--adapter={tmp_path / 'theirs'}") == 0
    after = load_file(tmp_path / "mine" / "adapter_model.safetensors")
    assert {n: t.shape for n, t in before.items()} == {n: t.shape for n, t in after.items()}
    assert all(not torch.equal(before[name], after[name]) for name in before)
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "mine")
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    assert manifest["config"]["rank"] == 4 and manifest["config"]["layers"] == "2-3"
    assert len(manifest["continued_from"]) == 64


def test_an_adapter_of_another_base_is_not_trained_on(tmp_path, base, data_file, capsys):
    assert train(tmp_path, base, data_file, f"--adapter={SAFETY}") == 2
    assert "the adapter must be of this base; its manifest names" in capsys.readouterr().err
    assert train(tmp_path, base, data_file, f"--adapter={SAFETY}", "--rank=2") == 2
    assert "--adapter brings its own shape; got --rank" in capsys.readouterr().err


def test_full_mode_saves_a_model_that_transformers_loads(tmp_path, base, data_file):
    assert train(tmp_path, base, data_file, "--mode=full", "--lr=1e-4", "--epochs=1") == 0
    tuned = AutoModelForCausalLM.from_pretrained(tmp_path / "mine")
    plain = AutoModelForCausalLM.from_pretrained(base)
    moved = [
        name
        for (name, one), other in zip(tuned.named_parameters(), plain.parameters(), strict=True)
        if not torch.equal(one, other)
    ]
    assert len(moved) == len(list(plain.parameters()))
    assert (tmp_path / "mine" / "tokenizer.json").is_file()


def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, base, data_file, capsys):
    long = {"prompt": "bomb " * 40, "completion": "No\n</think>\n\nNo."}
    with data_file.open("a") as file:
        file.write(json.dumps(long) + "\n")
    for flags, message in (
        (["--max-length=30"], "an example must fit the limit of 30 tokens; example 25 has "),
        (["--layers=5-20"], "within 0-7 for this model; got 5-20"),
        (["--device=cuda"], "--device cuda needs an NVIDIA GPU"),
        (["--config=nowhere.json"], "--config must be a JSON file; got 'nowhere.json'"),
        (["--data=nobody/nothing"], "got 'nobody/nothing', no file here"),
    ):
        if flags == ["--device=cuda"] and torch.cuda.is_available():
            continue
        assert train(tmp_path, base, data_file, *flags) == 2
        errors = [li for li in capsys.readouterr().err.splitlines() if li.startswith("error:")]
        assert len(errors) == 1 and message in errors[0], errors
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_is_no_adapter_is_not_replaced(tmp_path, base, data_file, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert train(tmp_path, base, data_file) == 2
    assert "--output must be new or an adapter folder" in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_a_missing_model_and_an_unknown_module_end_in_one_line(tmp_path, base, data_file, capsys):
    assert train(tmp_path, tmp_path / "nowhere", data_file) == 2
    assert "the model must be a checkpoint folder" in capsys.readouterr().err
    assert train(tmp_path, base, data_file, "--modules=up_porj") == 2
    errors = [li for li in capsys.readouterr().err.splitlines() if li.startswith("error:")]
    assert len(errors) == 1 and "got up_porj" in errors[0]


def test_an_interrupted_stage_goes_on_from_its_checkpoint(tmp_path, tokenizer):
    from dataclasses import replace

    from trainer.make_models import pretrain
    from trainer.make_models.reasoner import new_reasoner
    from trainer.make_models.stages import read_stages

    stage = replace(read_stages()["skills"], examples=24)
    path = tmp_path / "stage.pt"
    first = new_reasoner(tokenizer, 1)
    pretrain.run_stage(first, tokenizer, stage, 7, checkpoint=path)
    second = new_reasoner(tokenizer, 2)
    pretrain.run_stage(second, tokenizer, stage, 7, checkpoint=path)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
