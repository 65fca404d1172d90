"""The lean decoder answers an exam as PEFT's own forward does, at any strength."""

from pathlib import Path

from peft import PeftModel

from trainer.answer.backend import LocalModel
from trainer.answer.decoder import DecodedModel
from trainer.answer.exam_backend import exam_backend
from trainer.measure.strength import at_strength
from trainer.shared.io import load_model
from trainer.world.exam import build_exam

ROOT = Path(__file__).resolve().parents[2]


def test_an_adapted_model_answers_alike_through_both_at_a_strength_of_its_own():
    model, tokenizer = load_model(ROOT / "models" / "tiny-reasoner")
    adapted = PeftModel.from_pretrained(model, ROOT / "adapters" / "safety-r1")
    exam = build_exam(n=5, seed=4, split="validation", names=("fact", "benign", "harmful"))
    tasks = [task for tasks in exam.sets.values() for task in tasks]
    answers = []
    for strength in (0.0, 1.0):
        with at_strength(adapted, strength):
            lean = exam_backend(adapted, tokenizer)
            assert isinstance(lean, DecodedModel)
            answers.append(lean.answer(tasks, "lean"))
            assert answers[-1] == LocalModel(adapted, tokenizer).answer(tasks, "peft")
    assert answers[0] != answers[1]


def test_a_shape_that_the_decoder_cannot_read_is_left_to_transformers(tokenizer, model):
    model.config.rope_parameters = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0}
    assert isinstance(exam_backend(model, tokenizer), LocalModel)
