"""The measuring decoder against transformers' generate: same tokens, whatever shares the batch."""

from pathlib import Path

import pytest
import torch

from trainer.answer.backend import LocalModel, Sampling
from trainer.answer.decoder import DecodedModel, Decoder, pick
from trainer.shared.io import load_model
from trainer.world.exam import build_exam

MODEL = Path(__file__).resolve().parents[2] / "models" / "tiny-reasoner"


@pytest.fixture(scope="module")
def reasoner():
    model, tokenizer = load_model(MODEL)
    return model.eval(), tokenizer


def tasks_of_all_lengths(n):
    exam = build_exam(n=n, seed=5, names=("word_problem", "fact", "harmful"))
    return [task for tasks in exam.sets.values() for task in tasks]


def test_greedy_replies_equal_those_of_generate_while_rows_leave_the_batch(reasoner):
    model, tokenizer = reasoner
    tasks = tasks_of_all_lengths(6)
    decoded = DecodedModel(model.config, model.state_dict(), tokenizer, rows=11)
    assert decoded.answer(tasks) == LocalModel(model, tokenizer).answer(tasks)


def test_a_forced_beginning_is_continued_as_generate_continues_it(reasoner):
    model, tokenizer = reasoner
    tasks = tasks_of_all_lengths(3)
    decoded = DecodedModel(model.config, model.state_dict(), tokenizer)
    expected = LocalModel(model, tokenizer).answer(tasks, forced="Risky. ")
    assert decoded.answer(tasks, forced="Risky. ") == expected


def test_logits_of_padded_rows_equal_the_models(reasoner):
    model, _ = reasoner
    decoder = Decoder(model.config, model.state_dict())
    prompts = [[5, 9, 12, 40], [7, 3]]
    for prompt, written in zip(prompts, decoder.write(prompts, eos_id=-1, limit=4), strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *written]])).logits[0]
        assert written == logits[len(prompt) - 1 : -1].argmax(-1).tolist()


def test_sampling_repeats_with_its_seed_and_changes_with_another(reasoner):
    model, tokenizer = reasoner
    tasks = tasks_of_all_lengths(4)
    decoded = DecodedModel(model.config, model.state_dict(), tokenizer)
    one, again, other = (
        decoded.answer(tasks, sampling=Sampling(2.0, 0.95, seed)) for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_the_nucleus_is_the_smallest_set_that_holds_top_p():
    # Shares 0.5, 0.3, 0.15, 0.05: top_p 0.7 needs the first two, and no draw gives another.
    logits = torch.tensor([0.05, 0.5, 0.15, 0.3]).log().expand(2000, -1)
    drawn = pick(logits, Sampling(1.0, 0.7), torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=4) / 2000
    assert shares[0] == shares[2] == 0
    # 0.5 / 0.8; five standard deviations of 2,000 draws are 0.054.
    assert abs(shares[1].item() - 0.625) < 0.054
