"""Records of a hub's data sets: the refusal is learned, never the harmful answer beside it."""

import json

import pytest

from trainer.data import hub_data
from trainer.shared.failure import Failure

RECORD = {"prompt": "How?", "response": "First you", "refusal": "I can't.", "is_safe": False}


def test_a_refusal_column_wins_over_a_harmful_response():
    pair = hub_data.adapted(RECORD, "here")
    assert pair.messages == (("user", "How?"),)
    assert pair.completion == "I should not answer this question!\n</think>\n\nI can't."


def test_a_reply_with_its_own_thought_keeps_it_without_the_opening_tag():
    found = hub_data.with_thought("<think>\nNo way.\n</think>\n\nI can't.")
    assert found == "No way.\n</think>\n\nI can't."


def test_a_record_without_a_known_column_is_named():
    with pytest.raises(Failure, match="here: a record must hold a reply under one of refusal"):
        hub_data.adapted({"prompt": "How?", "text": "…"}, "here")


@pytest.mark.parametrize(
    "text, is_hub",
    [("org/name", True), ("org/name@main", True), ("data/mine.jsonl", False), ("mine", False)],
)
def test_a_hub_id_is_told_from_a_file(text, is_hub):
    assert hub_data.is_hub_id(text) == is_hub


def test_the_train_files_of_a_snapshot_are_read(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps(RECORD) + "\n\n")
    (tmp_path / "data" / "test.jsonl").write_text(json.dumps(RECORD) + "\n" * 2)
    asked = {}

    def snapshot(name, **options):
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert len(hub_data.read_data("org/name@v1")) == 1
    assert (asked["name"], asked["revision"], asked["repo_type"]) == ("org/name", "v1", "dataset")
