"""The stages of make-models: the file holds the very stages, and a wrong one is named."""

import hashlib
import json
from dataclasses import asdict

import pytest

from trainer.make_models.pretrain import draw_pairs
from trainer.make_models.stages import STAGES, read_stages
from trainer.shared.failure import Failure

# Stage -> SHA-256 (16 digits) of its values, and of the first 200 examples drawn with seed 7: those
# of models/tiny-reasoner. The order of a mix decides what is drawn, so it is part of both.
MADE_WITH = {
    "skills": ("3d910882a8e6dab7", "687dc802291fc67d"),
    "judge": ("328f712b0a555b29", "ca15dd6aff389506"),
    "align": ("aa2baec110f04d0c", "c437b053f1ae01df"),
    "continue": ("c662495bccfc0d8a", "d40561ca246ad639"),
    "continue without harmful compliance": ("ed70079a04edeb34", "6586d8509f70a58e"),
}


def short_hash(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def test_the_stages_are_those_that_made_the_shipped_checkpoint_bit_for_bit():
    found = {
        name: (
            short_hash(asdict(stage)),
            short_hash([(p.messages, p.completion) for p in draw_pairs(stage, 7, 0, 200)]),
        )
        for name, stage in read_stages().items()
    }
    assert found == MADE_WITH


@pytest.mark.parametrize(
    "change, message",
    [
        ({"examples": 0}, "skills: examples must be a whole number above 0; got 0"),
        ({"examples": 1.5}, "skills: examples must be a whole number"),
        ({"judges": 1}, "judges must be true or false; got 1"),
        ({"learning_rate": "2e-3"}, "learning_rate must be above 0 and at most 1; got '2e-3'"),
        ({"mix": {"fact": 0.5}}, "shares of a mix must sum to 1; got 0.5"),
        ({"mix": {"poem": 1.0}}, "mix must give kinds among word_problem, fact"),
        ({"steps": 3}, "missing or unknown: steps"),
        ({"name": "skill"}, "must hold the stages skills, judge"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_stage_that_is_wrong_is_named_with_its_value(tmp_path, change, message):
    stages = json.loads(STAGES.read_text(encoding="utf-8"))
    stages[0] |= change
    path = tmp_path / "stages.json"
    path.write_text(json.dumps(stages), encoding="utf-8")
    with pytest.raises(Failure, match=message):
        read_stages(path)


def test_a_file_that_is_no_list_of_stages_is_named(tmp_path):
    path = tmp_path / "stages.json"
    for text in ("{", "{}", "[1]"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(Failure, match=r"stages\.json must be a"):
            read_stages(path)
