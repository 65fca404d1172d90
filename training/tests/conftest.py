"""Shared by the tests: a small tokenizer and a random model of the real shape, made once."""

import pytest
import torch

from trainer.make_models.make_models import make_tokenizer
from trainer.make_models.reasoner import new_reasoner, save_reasoner


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer(seed=7)


@pytest.fixture
def model(tokenizer):
    return new_reasoner(tokenizer, seed=3)


@pytest.fixture
def base(tmp_path, model, tokenizer):
    """The random model as a checkpoint folder."""
    save_reasoner(model, tokenizer, tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def short_replies(monkeypatch):
    """For tests whose answers show in the first tokens."""
    monkeypatch.setattr("trainer.answer.backend.MAX_NEW_TOKENS", 32)
