"""Data of the recipes: what may train, what is kept out of it, and how it is worded."""

import hashlib
import json
import random
from dataclasses import replace

import pytest

from trainer.recipes import sources
from trainer.recipes.examples import digest, kept, turned
from trainer.recipes.lookalikes import FAMILIES, lookalikes
from trainer.recipes.measure import PREFILL, ROLE_PLAY
from trainer.recipes.mixes import JOBS, Mix
from trainer.recipes.near import NEAR, Neighbours
from trainer.recipes.refusals import STYLES, WORDINGS, subject_of
from trainer.recipes.screening import split
from trainer.recipes.wrappers import BEGINNINGS, SCENES, TURN
from trainer.shared.batches import Encoded
from trainer.shared.failure import Failure
from trainer.suites.datasets import SETS
from trainer.suites.rule_judge import refuses


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    def write(name, prompts, **more):
        """A set whose bytes count as the published ones."""
        rows = [{"id": f"{name}-{i}", "prompt": p, **more} for i, p in enumerate(prompts)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        monkeypatch.setitem(SETS, name, replace(SETS[name], sha256=sha256))

    for name in sources.HARMFUL:
        write(name, [f"{name} bad {word}" for word in ("one", "two", "three")], label="harmful")
    write("harmbench", ["a song"], functional_category="copyright")
    write("advbench", ["advbench bad one", "ADVBENCH  bad one!", "x" * 200, "Left out"])
    for name in sources.BENIGN_SHARES:
        write(name, [f"{name} good {word}" for word in ("one", "two", "three")])
    write("dolly_sample", ["Who is this?"], context="a page")
    overlaps = {part: {} for part in sources.EXCLUSIONS} | {"exclude": {"advbench": ["advbench-3"]}}
    text = json.dumps(overlaps)
    (tmp_path / sources.OVERLAPS).write_text(text, encoding="utf-8")
    monkeypatch.setattr(sources, "OVERLAPS_SHA256", hashlib.sha256(text.encode()).hexdigest())
    return tmp_path


def test_harmful_prompts_leave_out_excluded_long_repeated_and_copyright_rows(data_dir):
    texts = [prompt.text for prompt in sources.harmful_prompts(data_dir, seed=1)]
    assert sum("advbench" in text.lower() for text in texts) == 1
    assert len(texts) == 1 + 3 * 3
    assert not {"Left out", "a song"} & set(texts)


def test_ordinary_prompts_need_no_context(data_dir):
    texts = [prompt.text for prompt in sources.ordinary_prompts(data_dir, seed=1)]
    assert len(texts) == 9
    assert "Who is this?" not in texts


def test_a_set_of_other_bytes_trains_nothing(data_dir):
    with (data_dir / "mbpp.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(Failure, match=r"mbpp\.jsonl must have the SHA-256"):
        sources.ordinary_prompts(data_dir, seed=1)
    with pytest.raises(Failure, match=r"must hold strongreject\.jsonl"):
        sources.test_texts(data_dir)


def test_other_overlaps_train_nothing(data_dir):
    path = data_dir / sources.OVERLAPS
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(Failure, match=r"must hold overlaps\.json with the SHA-256"):
        sources.harmful_prompts(data_dir, seed=1)
    path.unlink()
    with pytest.raises(Failure, match=r"got no such file"):
        sources.harmful_prompts(data_dir, seed=1)


def test_pools_are_dealt_by_their_shares_until_they_are_empty():
    pools = {
        "a": [sources.Prompt(f"a{i}", "") for i in range(9)],
        "b": [sources.Prompt(f"b{i}", "") for i in range(2)],
    }
    ids = [prompt.id for prompt in sources.dealt(pools, {"a": 0.75, "b": 0.25})]
    assert ids[:4] == ["a0", "a1", "a2", "b0"]
    assert len(ids) == 11


def test_a_reworded_copy_is_near_and_another_sentence_is_not():
    tests = Neighbours(["How do I tie a bowline knot?", "What is the capital of France?"])
    assert tests.nearest("how do i tie a bowline knot") == pytest.approx(1.0)
    assert tests.nearest("How can I tie a bowline knot?") > NEAR
    assert tests.nearest("Write a poem about autumn leaves.") < 0.3
    assert kept(["How do I tie a bowline knot", "Sing."], tests) == ["Sing."]


@pytest.mark.parametrize("harmful", [False, True])
def test_lookalikes_are_many_distinct_and_of_every_family(harmful):
    found = lookalikes(600, 1, harmful=harmful)
    assert len({lookalike.prompt for lookalike in found}) == 600
    families = {name for name, sides in FAMILIES.items() if sides[harmful]}
    assert {lookalike.family for lookalike in found} == families
    assert found[:50] == lookalikes(50, 1, harmful=harmful)
    assert found != lookalikes(600, 2, harmful=harmful)
    assert not [x.prompt for x in found if "{" in x.prompt or "  " in x.prompt]


def test_no_harmless_lookalike_is_a_harmful_one_too():
    harmless = {x.prompt for x in lookalikes(10**6, 1, harmful=False)}
    harmful = {x.prompt for x in lookalikes(10**6, 1, harmful=True)}
    assert len(harmless) > 3000
    assert not harmless & harmful


@pytest.mark.parametrize("style", STYLES)
def test_every_wording_is_a_refusal_to_the_judge(style):
    rng = random.Random(1)
    prompts = ("How do I rob a bank?", "Write malware.", "Tell me something.")
    for prompt in prompts * 5:
        assert refuses(WORDINGS[style](prompt, rng)), style


def test_a_varied_refusal_names_what_is_asked_for():
    assert subject_of("Write malware that spreads") == "breaking into systems"
    assert subject_of("Do it") == "something harmful"
    assert "breaking into systems" in WORDINGS["varied"]("Write malware", random.Random(1))


def test_a_jobs_key_is_of_what_decides_its_weights():
    job = JOBS["balanced"]
    key = job.key("data", "base")
    assert replace(job, name="other").key("data", "base") == key
    assert replace(job, learning_rate=2e-4).key("data", "base") != key
    assert replace(job, mix=Mix(refusals=1)).key("data", "base") != key
    assert job.key("other data", "base") != key


def test_the_rows_digest_follows_every_token():
    assert digest([Encoded([1], [2])]) != digest([Encoded([1], [3])])


def test_screened_prompts_and_unseen_ones_share_none():
    screened, unseen = split([f"prompt {i}" for i in range(50)], 20, seed=0)
    assert len(screened) == 20
    assert len(unseen) == 30
    assert not set(screened) & set(unseen)
    assert split([f"prompt {i}" for i in range(50)], 20, seed=0)[0] == screened


class Letters:
    """A tokenizer: one id a letter."""

    eos_token_id = 0

    def __call__(self, text, **more):
        return {"input_ids": [ord(letter) for letter in text]}

    def apply_chat_template(self, chat, **more):
        return f"<{chat[0]['content']}>"


def test_an_answer_that_had_begun_is_part_of_the_prompt_and_its_turn_is_learned():
    (row,) = turned(Letters(), ["Bad"], random.Random(1))
    begun = "".join(map(chr, row.prompt))
    assert begun.startswith("<Bad>") and begun.removeprefix("<Bad>") in BEGINNINGS
    assert "".join(map(chr, row.completion[:-1])) == TURN and row.completion[-1] == 0
    assert refuses(TURN)


def test_the_attacks_that_are_measured_are_not_those_that_are_learned():
    assert PREFILL not in BEGINNINGS
    scenes = Neighbours([scene.format("") for scene in SCENES])
    assert scenes.nearest(ROLE_PLAY.format("")) < 0.6
    assert all(scene.count("{}") == 1 for scene in SCENES)
