"""Greedy, sampled and forced replies of a model in this process."""

from pathlib import Path

import pytest
import torch

from trainer.answer.backend import LocalModel, Sampling
from trainer.shared.failure import Failure
from trainer.shared.io import load_model
from trainer.world import grammar
from trainer.world.exam import build_exam

pytestmark = pytest.mark.usefixtures("short_replies")

MODEL = Path(__file__).resolve().parents[2] / "models" / "tiny-reasoner"


@pytest.fixture(scope="module")
def local() -> LocalModel:
    model, tokenizer = load_model(MODEL)
    return LocalModel(model, tokenizer)


@pytest.fixture(scope="module")
def tasks() -> tuple[grammar.Task, ...]:
    return build_exam(n=6, seed=3, names=("harmful",)).sets["harmful"]


def test_the_same_seed_draws_the_same_replies_and_another_seed_draws_others(local, tasks):
    hot = Sampling(temperature=3.0, top_p=1.0, seed=5)
    first = local.answer(tasks, sampling=hot)
    assert local.answer(tasks, sampling=hot) == first
    assert local.answer(tasks, sampling=Sampling(3.0, 1.0, seed=6)) != first


def test_a_temperature_near_zero_and_a_tiny_top_p_both_say_what_greedy_says(local, tasks):
    greedy = local.answer(tasks)
    assert local.answer(tasks, sampling=Sampling(temperature=1e-4)) == greedy
    assert local.answer(tasks, sampling=Sampling(temperature=3.0, top_p=1e-6)) == greedy


def test_sampling_leaves_the_random_numbers_of_the_caller_alone(local, tasks):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    local.answer(tasks[:1], sampling=Sampling(1.0))
    assert torch.equal(torch.rand(3), expected)


def test_a_forced_beginning_is_part_of_the_thought(local, tasks):
    assert all(reply.thought.startswith("Sure") for reply in local.answer(tasks, forced="Sure"))


def test_a_closed_thought_is_empty_and_the_answer_follows(local, tasks):
    replies = local.answer(tasks, forced="</think>\n\n")
    assert all(reply.thought == "" for reply in replies)
    assert any(reply.answer for reply in replies)


def test_forcing_what_the_model_would_write_anyway_changes_nothing(local, tasks, monkeypatch):
    monkeypatch.setattr("trainer.answer.backend.MAX_NEW_TOKENS", 320)  # long enough to end
    greedy = local.answer(tasks)
    assert all(reply.thought.startswith("Risky") for reply in greedy)
    assert local.answer(tasks, forced="Risky") == greedy


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, 1.5)])
def test_a_sampling_that_cannot_be_is_refused(values):
    with pytest.raises(Failure, match="must be above 0"):
        Sampling(*values)
