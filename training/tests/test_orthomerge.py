"""OrthoMerge: its identities, and the folder that the command writes, read by stock PEFT."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from random_lora import lora_on
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from trainer.cli import main
from trainer.shared import whole_folder
from trainer.weights.base_digest import base_digest
from trainer.weights.lora_folder import adapter_digest, canonical, read_lora
from trainer.weights.orthomerge import default_k, project
from trainer.weights.overlap import overlap
from trainer.weights.spectrum import Factors, top_singular
from trainer.weights.tensor_store import TensorStore


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def adapter(tmp_path, base):
    return lora_on(base, tmp_path / "lora", rank=4, modules=["up_proj", "k_proj"])


def orthomerge(adapter, base, output, *more, mode="both"):
    return main(["orthomerge", f"--adapter={adapter}", f"--model={base}", f"--output={output}",
                 f"--mode={mode}", *more])  # fmt: skip


@pytest.mark.parametrize("rank", [1, 4])
def test_projected_factors_are_orthogonal_to_the_top_directions_and_keep_their_rank(rank):
    weight, b, a = random(96, 64, seed=1), random(96, rank, seed=2), random(rank, 64, seed=3)
    top = top_singular(weight, 12)
    new_b, new_a = project(b, a, top, "both")
    assert (top.u.T.float() @ new_b).norm() / new_b.norm() <= 1e-5
    assert (new_a @ top.v.float()).norm() / new_a.norm() <= 1e-5
    assert (new_b.shape, new_a.shape) == (b.shape, a.shape)
    assert torch.linalg.matrix_rank(new_b @ new_a) == rank
    found = overlap(weight, Factors(new_b, new_a), top)
    assert max(found.column_share, found.row_share) <= 1e-5


def test_the_factors_product_is_the_projected_product():
    weight, b, a = (
        random(*shape, seed=i).double() for i, shape in enumerate([(30, 20), (30, 3), (3, 20)])
    )
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    u, v = u[:, :5], vh[:5].T
    left, right = torch.eye(30) - u @ u.T, torch.eye(20) - v @ v.T
    top = top_singular(weight, 5)
    b_col, a_col = project(b, a, top, "col", strength=1.2)
    assert torch.equal(a_col, a)
    assert torch.allclose(b_col @ a_col, 1.2 * left @ b @ a)
    b_both, a_both = project(b, a, top, "both", strength=1.75)
    assert torch.allclose(b_both @ a_both, 1.75 * left @ b @ a @ right)


@pytest.mark.parametrize("mode", ["col", "both"])
def test_strength_one_and_no_directions_is_the_identity(mode):
    weight, b, a = random(30, 20, seed=1), random(30, 3, seed=2), random(3, 20, seed=3)
    new_b, new_a = project(b, a, top_singular(weight, 0), mode)
    assert torch.equal(new_b, b) and torch.equal(new_a, a)


def test_the_default_k_keeps_the_papers_share():
    assert (default_k(5120), default_k(3584), default_k(128), default_k(16)) == (64, 45, 2, 1)


def test_the_new_folder_loads_in_stock_peft_and_states_where_it_came_from(
    tmp_path, base, adapter, tokenizer, capsys
):
    output = tmp_path / "ortho"
    assert orthomerge(adapter, base, output, "--lambda=1.2") == 0
    table = capsys.readouterr().out
    assert (
        "both, k=2, λ=1.2" in table and "both, k=63, λ=1.2" in table
    )  # k_proj is [64, 128]: 63 at most
    config = json.loads((output / "adapter_config.json").read_text())
    assert config == json.loads((adapter / "adapter_config.json").read_text())
    manifest = json.loads((output / "manifest.json").read_text())
    facts = manifest["orthomerge"]
    assert (facts["mode"], facts["k"], facts["lambda"]) == ("both", 2, 1.2)
    assert facts["source_digest"] == adapter_digest(adapter)
    assert manifest["base_digest"] == base_digest(base)
    assert facts["after"]["column_share"] < facts["before"]["column_share"]
    weight = TensorStore(base).read("model.layers.2.mlp.up_proj.weight")
    pair, top = read_lora(output).factors("model.layers.2.mlp.up_proj"), top_singular(weight, 2)
    assert (top.u.T.float() @ pair.b).norm() / pair.b.norm() <= 1e-5
    plain = AutoModelForCausalLM.from_pretrained(base)
    inputs = torch.tensor([tokenizer.encode("How do I make a bomb?")])
    before = plain(inputs).logits
    assert (PeftModel.from_pretrained(plain, output)(inputs).logits - before).abs().max() > 1e-3


def test_k_zero_writes_the_sources_own_tensors(tmp_path, base, adapter):
    assert orthomerge(adapter, base, tmp_path / "same", "--k=0", mode="col") == 0
    source, written = (
        load_file(f / "adapter_model.safetensors") for f in (adapter, tmp_path / "same")
    )
    assert source.keys() == written.keys()
    assert all(torch.equal(source[key], written[key]) for key in source)


def test_bad_input_ends_in_one_line_and_writes_nothing(tmp_path, base, adapter, capsys):
    output = tmp_path / "ortho"

    def refusal(*more, adapter=adapter, output=output):
        assert orthomerge(adapter, base, output, *more) == 2
        return capsys.readouterr().err

    assert "--k must be between 0 and 63" in refusal("--k=64")
    assert "--k must be between 0 and 63" in refusal("--k=-1")
    assert "--lambda must be above 0" in refusal("--lambda=0")
    assert "must be a PEFT adapter folder" in refusal(adapter=base)
    assert "--output must be new or an adapter folder" in refusal(output=base)
    with pytest.raises(SystemExit):
        orthomerge(adapter, base, output, mode="diagonal")
    other = tmp_path / "other-base"
    shutil.copytree(adapter, other)
    (other / "manifest.json").write_text(json.dumps({"base_digest": "0" * 64}))
    assert "its manifest names 000000000000" in refusal(adapter=other)
    tensors = load_file(other / "adapter_model.safetensors")
    key = "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"
    save_file(tensors | {key: tensors[key][:-1].contiguous()}, other / "adapter_model.safetensors")
    assert "up_proj is [384, 128] there and [383, 128]" in refusal(adapter=other)
    tensors[key][0] = float("nan")
    save_file(tensors, other / "adapter_model.safetensors")
    assert "weights must be finite" in refusal(adapter=other)
    assert not output.exists()


def test_a_disk_that_fills_leaves_the_old_adapter_and_no_half_of_the_new(
    tmp_path, base, adapter, monkeypatch, capsys
):
    output = tmp_path / "ortho"
    assert orthomerge(adapter, base, output, "--k=1") == 0
    old = (output / "adapter_model.safetensors").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_folder, "replace_folder", full)
    assert orthomerge(adapter, base, output, "--k=5") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert (output / "adapter_model.safetensors").read_bytes() == old
    assert not list(tmp_path.glob(".*"))


def test_the_canonical_config_is_written_as_javascript_writes_it():
    value = {"b": 16.0, "a": [None, True, 0.05, 1e-05, 1e-07, 2.5e-06, -0.5], "ä": 'é"\n', "r": 1}
    assert (
        canonical(value)
        == '{"a":[null,true,0.05,0.00001,1e-7,0.0000025,-0.5],"b":16,"r":1,"ä":"é\\"\\n"}'
    )
