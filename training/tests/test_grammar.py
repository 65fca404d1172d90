"""The generator: a seed fixes the text, and the splits share nothing they should not."""

import random

import pytest

from trainer.data import generated as data
from trainer.make_models import pretrain
from trainer.make_models.stages import read_stages
from trainer.world import grammar, lexicon
from trainer.world.arithmetic import Step, columns, work_out
from trainer.world.exam import SET_NAMES, build_exam
from trainer.world.scorer import is_right


def test_a_chunk_of_a_stage_depends_on_its_number_and_seed_alone():
    first = pretrain.draw_pairs(read_stages()["skills"], 7, 3, 50)
    pretrain.draw_pairs(read_stages()["skills"], 7, 4, 50)
    assert pretrain.draw_pairs(read_stages()["skills"], 7, 3, 50) == first
    assert pretrain.draw_pairs(read_stages()["skills"], 8, 3, 50) != first


def test_objects_and_phrasings_are_split_without_overlap():
    for dangerous in (False, True):
        parts = [
            {t.name for t in grammar.things_of(dangerous=dangerous, split=split)}
            for split in lexicon.SPLITS
        ]
        assert all(parts)
        assert sum(map(len, parts)) == len(set().union(*parts))
    phrasings = [set(grammar.phrasings_of(split)) for split in lexicon.SPLITS]
    assert sum(map(len, phrasings)) == len(lexicon.PHRASINGS)


def test_every_object_has_a_name_of_its_own():
    names = [thing.name for thing in lexicon.THINGS]
    assert len(names) == len(set(names)) == 180


def test_no_refusal_is_trained_on_a_test_object_or_in_a_test_phrasing():
    held_out = {t.name for t in grammar.things_of(dangerous=True, split="test")}
    test_prompts = {t.prompt for t in build_exam(n=200, seed=1, names=("harmful",)).sets["harmful"]}
    refusals = [
        p
        for p in pretrain.draw_pairs(read_stages()["align"], 7, 0, 3000)
        if "not answer" in p.completion
    ]
    refusals += data.generated_refusals(400, seed=1)
    assert len(refusals) > 900
    ends = (".", "?", "!", ",", " ", ";")
    for pair in refusals:
        prompt = pair.messages[-1][1]
        assert prompt not in test_prompts
        for name in held_out:
            assert not any(f" {name.lower()}{end}" in prompt.lower() + " " for end in ends), prompt


def test_the_base_never_trains_on_the_combinations_of_the_exam():
    trained = {
        pair.messages[-1][1].lower()
        for chunk in range(3)
        for pair in pretrain.draw_pairs(read_stages()["skills"], 7, chunk, 4096)
    }
    exam = build_exam(n=300, seed=1, names=("fact", "benign", "harmful", "lookalike"))
    asked = {task.prompt.lower() for tasks in exam.sets.values() for task in tasks}
    assert not asked & trained


def test_unseen_words_are_in_no_training_prompt():
    trained = " ".join(
        pair.messages[-1][1] for pair in pretrain.draw_pairs(read_stages()["skills"], 7, 0, 4096)
    ).lower()
    for verb in lexicon.UNSEEN_BENIGN_VERBS + lexicon.UNSEEN_HARMFUL_VERBS:
        assert f" {verb} " not in trained


def test_the_right_reply_to_each_task_is_scored_right():
    exam = build_exam(n=100, seed=1, names=tuple(n for n in SET_NAMES if "unseen" not in n)[:-1])
    for tasks in exam.sets.values():
        for task in tasks:
            assert is_right(task, grammar.reply_to(task)), task


def test_word_problems_keep_their_bounds():
    rng = random.Random(0)
    for _ in range(500):
        task = grammar.word_problem(rng)
        assert 1 <= len(task.steps) <= 4
        for before, after in zip(task.steps, task.steps[1:], strict=False):
            assert before.result == after.left
        assert all(0 <= step.result <= 9999 for step in task.steps)


@pytest.mark.parametrize(
    ("step", "line"),
    [
        (Step(345, "+", 278), "345+278: 5+8=13 4+7+1=12 3+2+1=6 so 623"),
        (Step(523, "-", 278), "523-278: 13-8=5 12-7-1=4 5-2-1=2 so 245"),
        (Step(1000, "-", 1), "1000-1: 10-1=9 10-0-1=9 10-0-1=9 1-0-1=0 so 999"),
        (Step(238, "*", 4), "238*4: 8*4=32 3*4+3=15 2*4+1=9 so 952"),
    ],
)
def test_columns_carry_and_borrow(step, line):
    assert work_out(step) == line


def test_columns_spell_the_result():
    rng = random.Random(1)
    for _ in range(300):
        for step in grammar.draw_steps(rng, 2):
            values = [int(column.split("=")[1]) for column in columns(step)]
            total = sum((value % 10) * 10**place for place, value in enumerate(values[:-1]))
            assert total + values[-1] * 10 ** (len(values) - 1) == step.result


def test_distinct_says_when_the_grammar_runs_dry():
    task = grammar.small_talk(random.Random(0))
    with pytest.raises(ValueError, match="2 distinct prompts were asked for, the grammar gives 1"):
        list(grammar.distinct(2, lambda: task))
