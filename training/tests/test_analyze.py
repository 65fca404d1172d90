"""`analyze` on a base, an adapter and a fine-tuned copy whose numbers numpy can say."""

import json

import numpy as np
import pytest
import torch
from random_lora import lora_on
from safetensors.torch import load_file, save_file

from trainer.cli import main
from trainer.make_models.reasoner import save_reasoner
from trainer.shared import figure

GATE = "model.layers.2.mlp.gate_proj.weight"
UP = "model.layers.2.mlp.up_proj.weight"


@pytest.fixture
def tuned(tmp_path, base, model, tokenizer):
    """Two weights of layer 2 differ from the base, one of them by a known matrix of rank 3."""
    save_reasoner(model, tokenizer, tmp_path / "tuned")
    path = tmp_path / "tuned" / "model.safetensors"
    tensors = load_file(path)
    tensors[GATE][:3, :3] += torch.diag(torch.tensor([2.0, 1.0, 1.0]))
    tensors[UP] += 0.01 * torch.randn(tensors[UP].shape, generator=torch.Generator().manual_seed(1))
    save_file(tensors, path, metadata={"format": "pt"})
    return tmp_path / "tuned"


def test_an_adapter_and_a_fine_tuned_copy_stand_side_by_side(tmp_path, base, tuned, capsys):
    adapter = lora_on(base, tmp_path / "lora", rank=4, modules=["up_proj"])
    output = tmp_path / "analysis"
    status = main(["analyze", f"--model={base}", f"--tuned={tuned}", f"--adapter={adapter}",
                   f"--output={output}"])  # fmt: skip
    assert status == 0
    assert {path.name for path in output.iterdir()} == {
        "analysis.json", "analysis.md", "overlap.png", "overlap.svg",
        "stable-rank.png", "stable-rank.svg",
    }  # fmt: skip
    result = json.loads((output / "analysis.json").read_text())
    assert result["subjects"] == ["tuned", "lora"]
    rows = {(row["subject"], row["layer"], row["module"]): row for row in result["weights"]}
    assert len(rows) == 2 + 8  # unchanged weights have no row
    assert rows["tuned", 2, "gate_proj"]["stable_rank"] == pytest.approx(6 / 4, rel=1e-4)

    weight = load_file(base / "model.safetensors")[UP].double().numpy()
    lora = load_file(adapter / "adapter_model.safetensors")
    b, a = (lora[f"base_model.model.{UP.replace('.weight', '')}.lora_{s}.weight"] for s in "BA")
    delta = 8 / 4 * (b.double() @ a.double()).numpy()
    row, norm = rows["lora", 2, "up_proj"], np.linalg.norm
    u = np.linalg.svd(weight)[0][:, :16]
    assert row["stable_rank"] == pytest.approx(norm(delta) ** 2 / norm(delta, 2) ** 2, rel=1e-6)
    assert row["overlap"]["column_share"] == pytest.approx(
        norm(u.T @ delta) / norm(delta), rel=1e-6
    )
    assert row["overlap"]["column"] == pytest.approx(
        norm(weight.T @ delta) / norm(weight) / norm(delta), rel=1e-6
    )
    # A fine-tuned copy of random changes is near full rank; an adapter cannot pass its own.
    assert rows["tuned", 2, "up_proj"]["stable_rank"] > 20 > 4 >= row["stable_rank"]
    assert "| tuned" in capsys.readouterr().out


def test_what_is_no_pair_is_refused(tmp_path, base, tuned, capsys):
    output = tmp_path / "analysis"

    def refusal(*more):
        assert main(["analyze", f"--model={base}", f"--output={output}", *more]) == 2
        return capsys.readouterr().err

    assert "at least one --adapter or --tuned" in refusal()
    assert "weights equal to the base's" in refusal(f"--tuned={base}")
    tensors = load_file(tuned / "model.safetensors")
    tensors[GATE] = tensors[GATE][:-1].contiguous()
    save_file(tensors, tuned / "model.safetensors")
    assert "must be this base, fine-tuned" in refusal(f"--tuned={tuned}")
    assert not output.exists()


def test_the_same_data_gives_the_same_svg(tmp_path):
    for name in ("one", "two"):
        drawing, axes = figure.new_figure(title="twice")
        axes[0][0].plot([1, 2, 3], label="line")
        figure.legend_below(drawing, axes[0][0])
        png, svg = figure.save(drawing, tmp_path / f"{name}-0.5")
        assert png.name == f"{name}-0.5.png" and svg.is_file()
    assert (tmp_path / "one-0.5.svg").read_bytes() == (tmp_path / "two-0.5.svg").read_bytes()
