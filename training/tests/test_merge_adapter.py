"""A merged checkpoint answers as the hot adapter does, and is a whole Hugging Face folder."""

import json

import pytest
import torch
from peft import PeftModel
from random_lora import lora_on
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainer.cli import main
from trainer.structure import merge_adapter


def merge(adapter, base, output, *more):
    return main(["merge-adapter", f"--adapter={adapter}", f"--model={base}", f"--output={output}",
                 *more])  # fmt: skip


def logits(model, tokenizer):
    with torch.inference_mode():
        return model(torch.tensor([tokenizer.encode("How many apples are left of 12?")])).logits


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"rank_pattern": {"up_proj": 2}, "alpha_pattern": {"layers.3.mlp.up_proj": 20}},
        {"use_rslora": True},
    ],
    ids=["plain", "patterns", "rslora"],
)
def test_merged_logits_equal_hot_application(tmp_path, base, tokenizer, more):
    adapter = lora_on(
        base, tmp_path / "lora", rank=4, modules=["up_proj", "down_proj", "q_proj"], **more
    )
    assert merge(adapter, base, tmp_path / "merged") == 0
    plain = AutoModelForCausalLM.from_pretrained(base)
    before = logits(plain, tokenizer)
    hot = logits(PeftModel.from_pretrained(plain, adapter), tokenizer)
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), tokenizer)
    # float32: (W + BA)x and Wx + B(Ax) round differently in the last bits of each layer.
    assert (merged - hot).abs().max() < 1e-4 * hot.abs().max()
    assert (merged - before).abs().max() > 1e-2


def test_a_sharded_base_gives_the_same_shards_in_the_asked_dtype(tmp_path, base, tokenizer):
    sharded = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(sharded, max_shard_size="3MB")
    AutoTokenizer.from_pretrained(base).save_pretrained(sharded)
    adapter = lora_on(base, tmp_path / "lora", rank=2, modules=["gate_proj"])
    output = tmp_path / "merged"
    assert merge(adapter, sharded, output, "--dtype=bfloat16", "--strength=0.5") == 0
    names = sorted(path.name for path in sharded.glob("*.safetensors"))
    assert len(names) > 1 and names == sorted(path.name for path in output.glob("*.safetensors"))
    index = json.loads((output / "model.safetensors.index.json").read_text())
    tensors = {k: v for name in names for k, v in load_file(output / name).items()}
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    loaded = AutoModelForCausalLM.from_pretrained(output)
    assert loaded.dtype == torch.bfloat16
    assert loaded.generation_config.eos_token_id == tokenizer.eos_token_id
    assert AutoTokenizer.from_pretrained(output).chat_template == tokenizer.chat_template
    key = "model.layers.1.mlp.gate_proj.weight"
    lora = load_file(adapter / "adapter_model.safetensors")
    b, a = (lora[f"base_model.model.model.layers.1.mlp.gate_proj.lora_{s}.weight"] for s in "BA")
    exact = load_file(base / "model.safetensors")[key] + 0.5 * 8 / 2 * b @ a
    assert (tensors[key].float() - exact).abs().max() <= 2**-8 * exact.abs().max()


def test_bad_input_and_full_disks_end_in_one_line_and_leave_nothing(
    tmp_path, base, monkeypatch, capsys
):
    adapter = lora_on(base, tmp_path / "lora", rank=1, modules=["up_proj"])
    output = tmp_path / "merged"
    assert merge(adapter, base, base) == 2
    assert "--output must be new or a folder that merge-adapter made" in capsys.readouterr().err
    assert merge(adapter, tmp_path / "nowhere", output) == 2
    assert "a model must be a checkpoint folder" in capsys.readouterr().err

    monkeypatch.setattr(merge_adapter.shutil, "disk_usage", lambda _: NoRoom)
    assert merge(adapter, base, output) == 2
    assert "0.0 GB are free" in capsys.readouterr().err
    monkeypatch.undo()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merge_adapter, "save_file", full)
    assert merge(adapter, base, output) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"base", "lora"}


class NoRoom:
    free = 0
