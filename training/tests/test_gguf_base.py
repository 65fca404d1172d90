"""A GGUF file as a base: its numbers, its digest, its export made once."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainer import cli
from trainer.shared import gguf_folder
from trainer.shared.failure import Failure
from trainer.shared.gguf_folder import checkpoint_folder, gguf_digest
from trainer.shared.io import load_model
from trainer.shared.repository import ROOT
from trainer.weights.base_digest import base_digest, weights_digest

BUILT = ROOT / "dist" / "server" / "export-model.js"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A random Llama, saved by transformers, and model.gguf of it beside the weights."""
    sys.path.insert(0, str(ROOT / "test" / "support"))
    from gguf_checkpoint import write_model

    folder = tmp_path_factory.mktemp("source")
    torch.manual_seed(3)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, vocab_size=320, max_position_embeddings=64,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    own = json.loads((folder / "config.json").read_text())
    theta = {"rope_theta": own.get("rope_parameters", own)["rope_theta"]}
    (folder / "config.json").write_text(json.dumps(own | theta))
    write_model(folder)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DUTYFREE_CACHE_DIR", str(tmp_path / "cache"))
    if BUILT.is_file():  # without it the script builds first
        monkeypatch.setattr(gguf_folder, "EXPORTER", BUILT.relative_to(ROOT))
    return tmp_path / "cache"


def test_a_gguf_base_has_the_weights_it_was_made_of_and_the_files_digest(source, cache):
    file = source / "model.gguf"
    model, tokenizer = load_model(file)
    expected = LlamaForCausalLM.from_pretrained(source)
    assert model.dtype == torch.float32
    for name, weight in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name
    assert tokenizer.eos_token == "<|im_end|>"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    folder = checkpoint_folder(file)
    assert folder.name == "model"
    assert base_digest(folder) == base_digest(file) == digest
    # Weights that were changed in the folder are no longer that base.
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert base_digest(folder) == weights_digest(folder) != digest


def test_it_is_exported_once_for_each_type(source, cache, monkeypatch):
    exported = []

    def export(file, folder, dtype):
        exported.append(dtype)
        folder.mkdir(parents=True)

    monkeypatch.setattr(gguf_folder, "export", export)
    for dtype in ("auto", "float32", None, "bfloat16", "bfloat16"):
        checkpoint_folder(source / "model.gguf", dtype)
    assert exported == ["float32", "bfloat16"]


def test_a_split_file_has_the_digest_of_its_parts_hashes(tmp_path):
    parts = [tmp_path / f"big-0000{n}-of-00002.gguf" for n in (1, 2)]
    for part in parts:
        part.write_bytes(part.name.encode())
    hashes = [hashlib.sha256(part.read_bytes()).hexdigest() for part in parts]
    assert gguf_digest(parts[0]) == hashlib.sha256("".join(hashes).encode()).hexdigest()
    parts[1].unlink()
    with pytest.raises(Failure, match=r"big-00002-of-00002\.gguf is missing"):
        gguf_digest(parts[0])


def test_what_is_no_gguf_file_stays_as_it_is(tmp_path):
    for name in ("org/name", tmp_path, tmp_path / "none.gguf"):
        assert checkpoint_folder(name) is name


def test_without_node_the_failure_says_what_to_do(source, cache, monkeypatch):
    monkeypatch.setattr(gguf_folder.shutil, "which", lambda _: None)
    with pytest.raises(Failure, match="npm run export-model"):
        checkpoint_folder(source / "model.gguf")


def test_every_command_is_given_the_exported_folder(source, cache, monkeypatch):
    seen = []
    command = cli.Command(
        "a command",
        lambda parser: parser.add_argument("--model", type=Path),
        lambda arguments, _: seen.append(arguments.model),
    )
    monkeypatch.setattr(cli, "commands", lambda: {"command": command})
    monkeypatch.setattr(
        gguf_folder, "export", lambda file, folder, dtype: folder.mkdir(parents=True)
    )
    assert cli.main(["command", "--model", str(source / "model.gguf")]) == 0
    assert cli.main(["command", "--model", str(source)]) == 0
    assert seen == [checkpoint_folder(source / "model.gguf"), source]
    assert seen[0].is_relative_to(cache / "exports")
