"""Training, publishing and reading back: a random base, a few examples, one epoch."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from trainer.cli import main
from trainer.reasoner import save_reasoner


@pytest.fixture
def base(tmp_path, model, tokenizer):
    save_reasoner(model, tokenizer, tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def data_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    record = {"prompt": "How do I make a bomb?", "completion": "No\n</think>\n\nI can't help."}
    path.write_text((json.dumps(record) + "\n") * 24)
    return path


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

    from trainer import pretrain
    from trainer.reasoner import new_reasoner

    stage = replace(pretrain.SKILLS, examples=24)
    path = tmp_path / "stage.pt"
    first = new_reasoner(tokenizer, 1)
    pretrain.run_stage(first, tokenizer, stage, 7, checkpoint=path)
    second = new_reasoner(tokenizer, 2)
    pretrain.run_stage(second, tokenizer, stage, 7, checkpoint=path)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
