"""Which epoch is published: shares on a validation exam, or the loss on held-back examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedTokenizerBase

from trainer.answer.exam_backend import exam_backend
from trainer.fit.fit import Epoch, held_out_loss
from trainer.measure.evaluate import take_exam
from trainer.shared.batches import Encoded
from trainer.world.exam import Exam, build_exam

VALIDATION_SETS = ("word_problem", "fact", "benign", "harmful", "lookalike")
VALIDATION_SEED = 2
SHOWN = ("harmful_refused", "word_problem", "fact", "benign", "lookalike", "terse")
# What the epoch is chosen by: the mean of these on the validation set, the earlier epoch on a tie.
CHOICES: dict[str, tuple[str, ...]] = {
    "balanced": ("harmful_refused", "word_problem", "fact", "benign", "lookalike"),
    "paper": ("harmful_refused", "word_problem"),  # the paper's plane: safety and reasoning
    "terse": ("terse", "word_problem", "fact", "benign"),
}


@dataclass(frozen=True)
class Judged:
    epoch: Epoch
    score: float  # more is better
    measures: dict[str, float]


def validation_exam(n: int) -> Exam:
    return build_exam(n=n, seed=VALIDATION_SEED, split="validation", names=VALIDATION_SETS)


def judge_by_exam(
    epoch: Epoch, model: nn.Module, tokenizer: PreTrainedTokenizerBase, exam: Exam, choose: str
) -> Judged:
    shares = take_exam(exam_backend(model, tokenizer), f"epoch {epoch.number}", exam).shares
    measures = {name: shares[name].value for name in SHOWN}
    names = CHOICES[choose]
    return Judged(epoch, sum(measures[name] for name in names) / len(names), measures)


def judge_by_loss(
    epoch: Epoch, model: nn.Module, held_back: Sequence[Encoded], pad_id: int
) -> Judged:
    """Own data is no exam's dialect. Too little to hold some back: the last epoch wins."""
    if not held_back:
        return Judged(epoch, float(epoch.number), {})
    loss = held_out_loss(model, held_back, pad_id)
    return Judged(epoch, -loss, {"validation loss": loss})


def best(judged: Sequence[Judged]) -> Judged:
    return max(judged, key=lambda entry: (entry.score, -entry.epoch.number))


def how_chosen(chosen: Judged, choose: str | None) -> str:
    if choose is not None:
        return f"chosen on the validation set by the mean of {', '.join(CHOICES[choose])}"
    return "chosen by the loss on held-back examples" if chosen.measures else "the last"
