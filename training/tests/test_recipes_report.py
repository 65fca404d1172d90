"""Pages of the recipes: tables, the picture, and an adapter folder with its card."""

import json
from dataclasses import replace

import pytest
from safetensors.torch import load_file
from support import recipe
from test_fit_gradients import trainable

from trainer.recipes.measure import Subject, rows_in
from trainer.recipes.mixes import JOBS
from trainer.recipes.report import draw_frontier, measured_table, screening_table
from trainer.recipes.ship import Shipment, ship
from trainer.shared.failure import Failure

REFUSED = {
    "strongreject": 0.9, "xstest_harmful": 0.8, "xstest_benign": 0.25, "jbb_benign": 0.5,
}  # fmt: skip


def screened(strength=1.0):
    job = JOBS["paper"]
    return {
        "job": job.name, "data_sha256": "ab" * 32, "epoch": 1, "strength": strength,
        "refused": REFUSED, "train_seconds": 90, "recipe": job.as_json(),
    }  # fmt: skip


def counted(subject, refused, name="strongreject"):
    return {"subject": subject, "strength": 1.0, "set": name, "refused": refused, "n": 40}


def test_a_screening_row_shows_what_was_trained_and_refused():
    lines = screening_table([screened(0.75)]).splitlines()
    for words in ("`paper`", "160+0 : 0+0, fixed", "0.75", "90.0%", "25.0%"):
        assert words in lines[-1], words


def test_a_measured_set_is_a_row_and_a_subject_a_column():
    table = measured_table([counted("base", 4), counted("mine", 38), counted("mine", 6, "xstest")])
    header, _, first, second = table.splitlines()
    assert "base" in header and "mine" in header
    assert "10.0%" in first and "95.0%" in first
    assert "15.0%" in second


def test_the_picture_is_two_files(tmp_path):
    draw_frontier([screened(0.5), screened(1.0)], tmp_path / "frontier")
    assert (tmp_path / "frontier.png").stat().st_size > 1000
    assert (tmp_path / "frontier.svg").read_text(encoding="utf-8").count("<svg") == 1


@pytest.fixture
def shipment(tmp_path, model):
    trainable(model, recipe()).save_pretrained(tmp_path / "checkpoint", save_embedding_layers=False)
    return Shipment(
        folder=tmp_path / "adapters" / "mine",
        checkpoint=tmp_path / "checkpoint",
        job=JOBS["paper"],
        strength=0.75,
        base_name="some-base",
        base_digest="cd" * 32,
        description="Refuses.",
        command="npm run recipes",
        screened=[screened()],
        measured=[counted("base", 4), counted("paper", 38)],
    )


def test_a_shipped_adapter_names_its_base_its_strength_and_its_numbers(shipment):
    ship(shipment)
    folder = shipment.folder
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["base_digest"] == "cd" * 32
    assert manifest["recommended_strength"] == 0.75
    assert [row["refused"] for row in manifest["measured"]] == [4, 38]
    assert [
        found["shares"]["strongreject_refused"]["count"] for found in manifest["results"].values()
    ] == [4, 38]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "95.0%" in card and "StrongREJECT" in card
    assert load_file(folder / "adapter_model.safetensors")


def test_an_adapter_that_was_never_screened_does_not_ship(shipment):
    with pytest.raises(Failure, match="must name a job that was screened"):
        ship(replace(shipment, screened=[]))


def test_a_subjects_weights_scale_with_its_strength(shipment, model):
    ship(shipment)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = "model.layers.0.mlp.up_proj.weight"
    half, whole = (
        Subject("mine", shipment.folder, strength).weights(state)[name] - state[name]
        for strength in (0.5, 1.0)
    )
    assert half.norm() > 0
    assert (whole - 2 * half).norm() < 1e-5 * whole.norm()
    assert Subject("base", None).weights(state)[name] is state[name]


def test_rows_of_a_file_that_is_not_there_are_none(tmp_path):
    assert rows_in(tmp_path / "rows.jsonl") == []
