"""Provenance: digests that anyone can compute again, a commit that owns up to changes."""

import hashlib
import json
import subprocess

import pytest

from trainer.publish.provenance import commit, provenance
from trainer.shared.failure import Failure
from trainer.weights.base_digest import base_digest


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git(root, *arguments):
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "project"
    (root / "training").mkdir(parents=True)
    (root / "training" / "code.py").write_text("a = 1\n")
    (root / "notes.md").write_text("notes\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def test_the_digest_of_a_base_in_one_file_is_that_files_sha256(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "consolidated.safetensors").write_bytes(b"the same in another format")
    assert base_digest(tmp_path) == sha256(b"weights")


def test_the_digest_of_shards_is_made_of_theirs_in_name_order(tmp_path):
    names = ("model-00002.safetensors", "model-00001.safetensors")
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    index = {"weight_map": {"b": names[0], "a": names[1], "c": names[0]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    joined = "".join(sha256(name.encode()) for name in sorted(names))
    assert base_digest(tmp_path) == sha256(joined.encode())


def test_a_base_without_safetensors_is_refused(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(Failure, match=r"must hold model\.safetensors"):
        base_digest(tmp_path)


def test_the_commit_is_told_and_changes_of_the_sources_with_it(repository):
    head = commit(repository)
    assert head is not None and len(head) == 40
    (repository / "notes.md").write_text("other notes\n")
    assert commit(repository) == head
    (repository / "training" / "new.py").write_text("b = 2\n")
    assert commit(repository) == f"{head}+changes"


def test_a_folder_without_git_or_inside_another_repository_has_no_commit(tmp_path, repository):
    assert commit(tmp_path) is None
    assert commit(repository / "training") is None


def test_provenance_names_the_base_within_the_project_and_holds_every_field(repository):
    base = repository / "models" / "base"
    base.mkdir(parents=True)
    (base / "model.safetensors").write_bytes(b"weights")
    found = provenance(
        base=base, data="4 examples", data_sha256="ab", config={"rank": 1}, seed=3, root=repository
    )
    assert found.pop("versions")["torch"]
    assert found == {
        "base_model": "models/base",
        "base_digest": sha256(b"weights"),
        "data": "4 examples",
        "data_sha256": "ab",
        "config": {"rank": 1},
        "seed": 3,
        "commit": commit(repository),
    }
