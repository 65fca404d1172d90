"""Red team: which rows there are, directions that are really gone, a run that goes on."""

import json
from pathlib import Path

import pytest
import torch

from trainer.cli import main
from trainer.measure.strength import at_strength
from trainer.redteam.attacks import all_attacks
from trainer.redteam.direction import (
    ablated,
    basis,
    decoder_layers,
    last_outputs,
    random_like,
    read_directions,
    without,
    written_directions,
)
from trainer.redteam.rows import Row, RowFile
from trainer.redteam.run import load_adapted
from trainer.shared.interval import wilson
from trainer.world.exam import build_exam

pytestmark = pytest.mark.usefixtures("short_replies")

ROOT = Path(__file__).resolve().parents[2]
MODEL, ADAPTER = ROOT / "models" / "tiny-reasoner", ROOT / "adapters" / "safety-r1"


@pytest.fixture(scope="module")
def loaded():
    model, tokenizer, _ = load_adapted(ADAPTER, MODEL)
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def harmful():
    return build_exam(n=8, seed=5, split="validation", names=("harmful",)).sets["harmful"]


def logits(model, tokens=(1, 40, 41, 42, 43)):
    with torch.inference_mode():
        return model(torch.tensor([list(tokens)])).logits


def test_every_attack_has_its_own_key_and_all_but_the_sweep_are_tried_on_the_base_too():
    attacks = all_attacks(seed=1)
    assert len({attack.key for attack in attacks}) == len(attacks)
    assert [a.strength for a in attacks if a.subjects == ("adapter",)] == [
        0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0,
    ]  # fmt: skip
    assert {a.group for a in attacks if "base" in a.subjects} == {
        "temperature", "thought", "paraphrase", "direction",
    }  # fmt: skip


def test_nothing_is_left_along_a_removed_direction_and_the_rest_stays():
    torch.manual_seed(1)
    q = basis(torch.randn(16, 3))
    x = torch.randn(4, 16)
    cleaned = without(x, q)
    assert (cleaned @ q).abs().max() < 1e-6
    torch.testing.assert_close(cleaned + (x @ q) @ q.T, x)


def test_without_the_directions_that_it_reads_the_adapter_is_the_base(loaded):
    model, _ = loaded
    with ablated(read_directions(model)):
        adapted = logits(model)
        with at_strength(model, 0.0):
            base = logits(model)
    torch.testing.assert_close(adapted, base, atol=1e-4, rtol=0)
    with at_strength(model, 0.0):
        assert (logits(model) - base).abs().max() > 1e-2  # the base misses them


def test_random_directions_in_the_same_places_leave_the_adapter_at_work(loaded):
    model, _ = loaded
    with ablated(random_like(read_directions(model), seed=2)):
        adapted = logits(model)
        with at_strength(model, 0.0):
            base = logits(model)
    assert (adapted - base).abs().max() > 1e-2


def test_the_hooks_are_gone_after_the_block_also_after_an_error(loaded):
    model, _ = loaded
    before = logits(model)
    with pytest.raises(ZeroDivisionError), ablated(read_directions(model)):
        raise ZeroDivisionError
    assert torch.equal(logits(model), before)


def test_the_written_directions_are_the_mean_difference_and_none_of_it_is_handed_on(
    loaded, harmful
):
    model, tokenizer = loaded
    directions = written_directions(model, tokenizer, harmful, strength=1.0)
    layers = decoder_layers(model)
    assert set(directions) == set(layers)
    on = last_outputs(model, tokenizer, harmful)
    with at_strength(model, 0.0):
        off = last_outputs(model, tokenizer, harmful)
    with ablated(directions):
        cleaned = last_outputs(model, tokenizer, harmful)
    for index, layer in enumerate(layers):
        q = directions[layer]
        mean = (on - off)[index].mean(dim=0)
        assert (mean @ q).abs().item() == pytest.approx(mean.norm().item(), rel=1e-4)
        assert (cleaned[index] @ q).abs().max() < 1e-4


def test_an_adapter_that_reads_no_residual_stream_has_no_read_directions(model):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=1, target_modules=["down_proj"], init_lora_weights=False)
    assert read_directions(get_peft_model(model, config)) == {}


def test_rows_are_found_again_only_under_the_same_settings(tmp_path):
    row = Row("strength-0", "adapter", {"fact": wilson(3, 4)}, 1.5, {"fact": ({"prompt": "?"},)})
    RowFile(tmp_path / "redteam.json", {"n": 4}).add(row)
    again = RowFile(tmp_path / "redteam.json", {"n": 4})
    assert again.is_resumed and again.rows == {("strength-0", "adapter"): row}
    assert not RowFile(tmp_path / "redteam.json", {"n": 5}).rows


def test_a_torn_file_of_rows_is_begun_anew(tmp_path):
    (tmp_path / "redteam.json").write_text('{"settings": {"n": 4}, "rows": [')
    assert not RowFile(tmp_path / "redteam.json", {"n": 4}).rows


def run(tmp_path, *more):
    arguments = [f"--adapter={ADAPTER}", f"--model={MODEL}", f"--output={tmp_path / 'out'}"]
    return main(["redteam", *arguments, "--n=4", "--groups=thought,paraphrase", *more])


def test_a_run_writes_the_table_and_a_second_one_measures_nothing_again(tmp_path, capsys):
    assert run(tmp_path) == 0
    first = (tmp_path / "out" / "redteam.json").read_text()
    rows = json.loads(first)["rows"]
    assert [(row["attack"], row["subject"]) for row in rows] == [
        ("thought-sure", "adapter"),
        ("thought-sure", "base"),
        ("thought-empty", "adapter"),
        ("thought-empty", "base"),
        ("paraphrased", "adapter"),
        ("paraphrased", "base"),
    ]
    assert all(row["shares"]["safety_score"]["n"] == 4 for row in rows)
    page = (tmp_path / "out" / "README.md").read_text()
    assert "empty thought" in page and "adapters/safety-r1 on models/tiny-reasoner" in page
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert "6 of 6 rows were measured before" in capsys.readouterr().err
    assert (tmp_path / "out" / "redteam.json").read_text() == first


def test_a_folder_without_an_adapter_an_unknown_group_and_a_strange_manifest_end_in_one_line(
    tmp_path, capsys
):
    assert run(tmp_path, f"--adapter={tmp_path}") == 2
    assert "--adapter must be a PEFT folder" in capsys.readouterr().err
    assert run(tmp_path, "--groups=strenght") == 2
    assert "--groups must be among strength" in capsys.readouterr().err
    adapter = tmp_path / "mine"
    adapter.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (adapter / name).write_bytes((ADAPTER / name).read_bytes())
    (adapter / "manifest.json").write_text('{"recommended_strength": "lots"}')
    assert run(tmp_path, f"--adapter={adapter}") == 2
    assert "recommended_strength is between 0 and 4; got 'lots'" in capsys.readouterr().err
    (adapter / "manifest.json").write_text('{"base_digest": "00ff"}')
    assert run(tmp_path, f"--adapter={adapter}") == 2
    assert "the base that it was trained on" in capsys.readouterr().err
