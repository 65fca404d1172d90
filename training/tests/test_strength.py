"""The rule that recommends a strength, apart from generation; then once with it."""

import pytest
import torch

from trainer.measure.strength import StrengthRow, at_strength, choose, choose_strength
from trainer.shared.failure import Failure
from trainer.shared.interval import wilson
from trainer.world.exam import build_exam

pytestmark = pytest.mark.usefixtures("short_replies")

N = 100


def row(strength, refused, word_problem=98, benign=100):
    counts = {"harmful_refused": refused, "word_problem": word_problem, "benign": benign}
    return StrengthRow(strength, {name: wilson(count, N) for name, count in counts.items()})


def chosen(*candidates):
    base = row(0.0, refused=0)
    return choose(base, candidates, kept=("word_problem", "benign")).strength


def test_the_trained_strength_is_kept_unless_another_is_safer_by_more_than_noise():
    assert chosen(row(0.5, 60), row(0.75, 97), row(1.0, 97), row(1.5, 100)) == 1.0
    assert chosen(row(0.5, 60), row(0.75, 70), row(1.0, 90), row(1.5, 100)) == 1.5


def test_the_nearest_to_it_is_chosen_where_it_loses_what_should_be_kept():
    assert chosen(row(0.5, 98), row(0.75, 99), row(1.0, 100, benign=80)) == 0.75


def test_the_order_of_the_candidates_does_not_matter():
    assert chosen(row(1.5, 100), row(0.5, 60), row(1.0, 100)) == 1.0


def test_a_strength_that_loses_word_problems_or_refuses_the_harmless_is_not_chosen():
    assert chosen(row(1.0, 70), row(1.5, 100, word_problem=80)) == 1.0
    assert chosen(row(1.0, 70), row(1.5, 100, benign=85)) == 1.0


def test_a_loss_that_noise_explains_costs_nothing():
    assert chosen(row(1.0, 70), row(1.5, 100, word_problem=96, benign=98)) == 1.5


def test_where_every_strength_loses_the_one_that_keeps_the_most_is_chosen():
    assert chosen(row(0.5, 90, benign=60), row(1.0, 99, benign=50)) == 0.5


def test_an_adapter_that_refuses_nothing_at_any_strength_stays_as_trained():
    assert chosen(row(0.5, 0), row(1.0, 0)) == 1.0


def test_the_choice_tells_its_rule_and_every_row_the_base_first():
    choice = choose(row(0.0, 0), [row(1.0, 99), row(0.5, 20)], kept=("benign",))
    told = choice.as_json()
    assert told["chosen"] == 1.0
    assert [entry["strength"] for entry in told["rows"]] == [0.0, 0.5, 1.0]
    assert told["rows"][2]["shares"]["harmful_refused"]["n"] == N
    assert "harmful_refused" in told["rule"] and "benign" in told["rule"]


def test_no_candidate_a_strange_one_and_the_test_split_are_refused(model, tokenizer):
    with pytest.raises(Failure, match="at least one candidate"):
        choose(row(0.0, 0), [])
    exam = build_exam(n=1, seed=1, split="validation", names=("harmful",))
    with pytest.raises(Failure, match=r"got 0\b"):
        choose_strength(model, tokenizer, exam, candidates=(0.0,))
    with pytest.raises(Failure, match="validation split"):
        choose_strength(model, tokenizer, build_exam(n=1, seed=1, names=("harmful",)))


@pytest.fixture
def adapted(model):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(r=1, lora_alpha=16, target_modules=["up_proj"], init_lora_weights=False)
    return get_peft_model(model, config).eval()


def test_strength_scales_the_update_and_is_undone_also_after_an_error(adapted):
    inputs = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        trained = adapted(inputs).logits
        with adapted.disable_adapter():
            base = adapted(inputs).logits
        with at_strength(adapted, 0.0):
            assert torch.equal(adapted(inputs).logits, base)
        with pytest.raises(ZeroDivisionError), at_strength(adapted, 2.0):
            assert not torch.equal(adapted(inputs).logits, trained)
            raise ZeroDivisionError
        assert torch.equal(adapted(inputs).logits, trained)


def test_a_model_without_an_adapter_has_no_strength(model):
    with pytest.raises(Failure, match="only a LoRA adapter"), at_strength(model, 1.0):
        pass


def test_each_strength_is_examined_and_one_of_them_is_chosen(adapted, tokenizer):
    exam = build_exam(n=2, seed=1, split="validation", names=("harmful", "benign"))
    choice = choose_strength(adapted, tokenizer, exam, candidates=(1.0, 0.5), kept=("benign",))
    assert [entry.strength for entry in choice.rows] == [0.0, 0.5, 1.0]
    assert choice.strength in (0.5, 1.0)
