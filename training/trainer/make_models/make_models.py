"""`make-models`: trains, examines and saves models/tiny-reasoner.

    python -m trainer make-models --output models/tiny-reasoner

Stage 1 is checkpointed under --work, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Qwen2ForCausalLM

from trainer.answer.backend import LocalModel
from trainer.make_models.pretrain import draw_pairs, run_stage
from trainer.make_models.reasoner import VOCAB_SIZE, new_reasoner, save_reasoner
from trainer.make_models.reasoner_card import FINAL, reasoner_card
from trainer.make_models.stages import Stage, read_stages
from trainer.make_models.tokenizer import train_tokenizer
from trainer.measure.evaluate import Result, as_json, take_exam
from trainer.publish.provenance import commit
from trainer.shared.progress import say
from trainer.world.exam import SET_NAMES, build_exam

TOKENIZER_EXAMPLES = 20_000
STAGES_BETWEEN = ("word_problem", "fact", "benign", "harmful")


@dataclass(frozen=True)
class MakeOptions:
    output: Path
    work: Path
    seed: int
    n: int  # prompts in each gated set of the final exam
    scale: float  # of every stage's examples; 1 is the real thing


def scaled(stage: Stage, scale: float) -> Stage:
    return dataclasses.replace(stage, examples=max(32, round(stage.examples * scale)))


def make_tokenizer(seed: int) -> PreTrainedTokenizerBase:
    pairs = draw_pairs(read_stages()["skills"], seed, 0, TOKENIZER_EXAMPLES)
    texts = (text for pair in pairs for text in (pair.messages[-1][1], pair.completion))
    return train_tokenizer(texts, VOCAB_SIZE)


def examine(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    n: int,
    sets: tuple[str, ...],
) -> Result:
    exam = build_exam(n=n, seed=1, names=sets)
    return take_exam(LocalModel(model, tokenizer), name, exam)


def make_models(options: MakeOptions) -> None:
    stages = read_stages()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    say(f"tokenizer: from {TOKENIZER_EXAMPLES} generated examples")
    tokenizer = make_tokenizer(options.seed)
    model = new_reasoner(tokenizer, options.seed)
    seconds: dict[str, float] = {}
    between: list[Result] = []
    small = max(10, options.n // 4)

    def stage(which: Stage, trained: Qwen2ForCausalLM, checkpoint: Path | None = None) -> None:
        part = scaled(which, options.scale)
        torch.manual_seed(options.seed)
        seconds[which.name] = run_stage(
            trained, tokenizer, part, options.seed, checkpoint=checkpoint
        )
        say(f"stage {which.name}: {seconds[which.name]:.0f} s")

    # 1-2. Skills, then alignment; each is examined shortly, for the card.
    stage(stages["skills"], model, options.work / "skills.pt")
    stage(stages["judge"], model, options.work / "judge.pt")
    between.append(examine(model, tokenizer, "after skills", small, STAGES_BETWEEN))
    stage(stages["align"], model)
    between.append(examine(model, tokenizer, "after align", small, STAGES_BETWEEN))

    # 3. The aligned weights go on twice: with harmful compliance (kept) and without (reported).
    variant = copy.deepcopy(model)
    stage(stages["continue"], model)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    save_reasoner(model, tokenizer, options.output)
    final = examine(model, tokenizer, FINAL, options.n, SET_NAMES)
    say_shares(final)
    stage(stages["continue without harmful compliance"], variant)
    without = examine(
        variant, tokenizer, "without harmful compliance", options.n, ("benign", "harmful")
    )
    say_shares(without)

    # 4. The numbers and the card.
    exam = build_exam(n=options.n, seed=1)
    results = {
        "seed": options.seed,
        "scale": options.scale,
        "commit": commit(),
        "exam": {"split": exam.split, "seed": exam.seed, "n": options.n},
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocab_size": len(tokenizer),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "results": {r.subject: as_json(r) for r in (*between, final, without)},
    }
    (options.output / "results.json").write_text(
        json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    card = reasoner_card(json.loads(json.dumps(results)), list(stages.values()))
    (options.output / "README.md").write_text(card, encoding="utf-8")
    say(f"saved {options.output}; {sum(seconds.values()) / 60:.1f} minutes of training")


def say_shares(result: Result) -> None:
    for name, share in result.shares.items():
        say(f"  {result.subject}: {name} {share.value:.3f} (n={share.n})")
