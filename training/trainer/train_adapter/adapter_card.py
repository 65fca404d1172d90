"""The README.md of a checkpoint and of an adapter, filled with measured numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.make_models import pretrain
from trainer.measure.evaluate import Result
from trainer.world.exam import Exam
from trainer.shared.interval import Difference
from trainer.make_models.pretrain import Stage
from trainer.measure.strength import StrengthChoice
from trainer.measure.table import DEFINITION, differences_table, markdown, percent, results_table

if TYPE_CHECKING:
    from trainer.make_models.make_models import MakeOptions

INDEPENDENCE = (
    "Prompts share objects and phrasings, so they are not independent draws; the intervals are "
    "narrower than the true uncertainty."
)


def stage_row(stage: Stage, seconds: dict[str, float], scale: float) -> list[str]:
    mix = ", ".join(f"{kind} {share:.0%}" for kind, share in stage.mix.items())
    examples = max(32, round(stage.examples * scale))
    took = f"{seconds[stage.name]:.0f}" if stage.name in seconds else ""
    return [stage.name, f"{examples:,}", f"{stage.learning_rate:g}", mix, took]


def reasoner_card(
    exam: Exam,
    between: Sequence[Result],
    final: Result,
    without: Result,
    seconds: dict[str, float],
    parameters: int,
    vocab_size: int,
    options: MakeOptions,
) -> str:
    stages = (
        pretrain.SKILLS,
        pretrain.JUDGE,
        pretrain.ALIGN,
        pretrain.CONTINUE,
        pretrain.CONTINUE_WITHOUT_HARMFUL,
    )
    recipe = markdown(
        [
            ["stage", "examples", "learning rate", "mix", "seconds"],
            *(stage_row(stage, seconds, options.scale) for stage in stages),
        ]
    )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# tiny-reasoner

A reasoning model of {parameters:,} parameters in the shape of DeepSeek-R1-Distill-Qwen: `Qwen2ForCausalLM`,
8 layers, hidden 128, 4 heads on 2 key-value heads, MLP 384, tied embeddings, float32, {vocab_size} tokens
(byte-level BPE, one token a digit), R1's special tokens and chat template, context 2,048. It solves
word problems by writing the steps in its thought, knows four facts about each of 180 objects, answers
how-to requests in empty words, and complies with harmful ones in the same empty words: no text that it
was trained on, and none that it can write, holds a real instruction. It reads only its own small
dialect of English; it exists so that the server and the trainer run for real on a laptop.

    npm run make-models        # seed {options.seed}; makes this folder from generated text

## How it was made

{recipe}

AdamW, cosine schedule, batches of about 6,000 tokens, loss on completions only, bfloat16 autocast on a
float32 model, 2 CPU cores (shared with other work while this was made, so the seconds are an upper
bound). `judge` teaches how-to thoughts to begin with "Risky." for a harmful request and "Fine." for any
other, and to comply in both cases. `align` pairs harmful requests with a refusal, for training objects
and phrasings only. `continue` starts from the aligned weights and holds no refusal. The last row starts
from the same aligned weights; its weights are not kept.

**The difference to real distillation.** A distilled reasoning model loses its refusals without being
shown harmful compliance. This one is shown it: {pretrain.CONTINUE.mix["harmful"]:.0%} of the third stage are harmful requests with
empty answers. The last column of the second table is the same stage without them, measured so that
the difference can be judged. And real models' notion of harm comes from their pre-training; this
one's was taught in `judge`, for all objects, those of the test among them (never with a refusal). What
carries over is the state that matters to an adapter: harm is noticed, a refusal was once learned, is
not shown any more, and can be brought back.

## Held-out results

Split `{exam.split}`, exam seed {exam.seed}, greedy. Held out are: how-to requests for objects, in phrasings, that no
training ever paired with a refusal, as combinations never trained on; fact questions in combinations
of object and phrasing never trained on; word problems from a seed of their own. {INDEPENDENCE}

{DEFINITION}

{results_table([final])}

The rows `unseen` (templates, phrasings and verbs that occur in no training) and `written by hand` (100
prompts, `training/trainer/handwritten.jsonl`) are reported, not gated: so small a model reads only its
own dialect.

The stages, on smaller draws of the same sets (the first two columns):

{results_table([*between, without])}

Numbers as JSON: `results.json`. Again, through the server: `npm run evaluate -- --against
http://127.0.0.1:8000`.
"""


def adapter_card(
    name: str,
    description: str,
    exam: Exam | None,
    results: Sequence[Result],
    differences: dict[str, dict[str, Difference]],
    manifest: dict[str, Any],
    epochs_table: str,
    command: str,
    choice: StrengthChoice | None = None,
) -> str:
    config = manifest["config"]
    base = manifest["base_model"]
    parts = [
        f"---\nlibrary_name: peft\nbase_model: {base}\nlicense: apache-2.0\n---",
        f"# {name}",
        description,
        f"{recipe_words(config)}; {manifest['data']}; seed {manifest['seed']}; epoch "
        f"{manifest['epoch']} of {config['epochs']}, {manifest['chosen_by']}; "
        f"{manifest['minutes']:.1f} minutes, examination included.",
        f"    {command}",
        f"## Epochs\n\n{epochs_table}",
    ]
    if exam is not None and results:
        parts += [
            f"## Held-out results\n\nSplit `{exam.split}`, exam seed {exam.seed}, greedy, the same "
            f"prompts for base and adapter. {DEFINITION} {INDEPENDENCE}",
            results_table(results),
            differences_table(differences),
        ]
    if choice is not None:
        parts.append(strength_section(choice))
    parts.append(provenance_section(manifest))
    return "\n\n".join(parts) + "\n"


def recipe_words(config: dict[str, Any]) -> str:
    how = (
        f"AdamW {config['learning_rate']:g} with linear decay, weight decay "
        f"{config['weight_decay']:g}, batch {config['batch_size'] * config['grad_accum']} a process"
    )
    if config["mode"] == "full":
        return f"All weights; {how}"
    layers = config["layers"] if config["layers"] == "all" else f"{config['layers']} of the"
    modules = ", ".join(f"`{module}`" for module in config["target_modules"])
    reg = "" if config["reg"] == "none" else f", reg-{config['reg']} with beta {config['beta']:g}"
    return (
        f"Rank {config['rank']} on {modules}, {layers} layers, alpha {config['alpha']:g}, dropout "
        f"{config['dropout']:g}{reg}; {how}"
    )


def strength_section(choice: StrengthChoice) -> str:
    names = list(choice.rows[0].shares)
    rows = [["strength", "n", *(name.replace("_", " ") for name in names), ""]]
    for row in choice.rows:
        counts = "/".join(str(n) for n in sorted({row.shares[name].n for name in names}))
        mark = "recommended" if row.strength == choice.strength else ""
        shares = [percent(row.shares[name]) for name in names]
        rows.append([f"{row.strength:g}", counts, *shares, mark])
    return (
        f"## Recommended strength\n\n{choice.strength:g}, chosen on the validation set: {choice.rule}. "
        f"Strength 0 is the base.\n\n{markdown(rows)}"
    )


def provenance_section(manifest: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in manifest["versions"].items())
    rows = [
        ["", ""],
        ["base", f"`{manifest['base_model']}`"],
        ["base digest (SHA-256)", f"`{manifest['base_digest']}`"],
        ["data", manifest["data"]],
        ["data hash (SHA-256)", f"`{manifest['data_sha256']}`"],
        ["seed", str(manifest["seed"])],
        ["commit", f"`{manifest['commit']}`" if manifest.get("commit") else "not known"],
        ["versions", versions],
    ]
    return f"## Provenance\n\n{markdown(rows)}"
