"""The README.md of the checkpoint, from its results.json and the stages that made it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.make_models.stages import Stage
from trainer.measure.table import DEFINITION, INDEPENDENCE, results_table, saved_shares
from trainer.publish.provenance import recorded_commit
from trainer.shared.markdown import markdown_table, wrapped

FINAL = "tiny-reasoner"  # the subject of results.json that ships


def stage_row(stage: Stage, saved: dict[str, Any]) -> list[str]:
    mix = ", ".join(f"{kind} {share:.0%}" for kind, share in stage.mix.items())
    examples = max(32, round(stage.examples * saved["scale"]))
    seconds = saved["seconds"].get(stage.name)
    took = "" if seconds is None else f"{seconds:.0f}"
    return [stage.name, f"{examples:,}", f"{stage.learning_rate:g}", mix, took]


def reasoner_card(saved: dict[str, Any], stages: Sequence[Stage]) -> str:
    """`saved` is what results.json holds."""
    exam, shares = saved["exam"], saved_shares(saved["results"])
    head = ["stage", "examples", "learning rate", "mix", "seconds"]
    recipe = markdown_table([head, *(stage_row(stage, saved) for stage in stages)])
    harmful = next(stage for stage in stages if stage.name == "continue").mix["harmful"]
    between = {name: found for name, found in shares.items() if name != FINAL}
    return wrapped(f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# tiny-reasoner

A reasoning model of {saved["parameters"]:,} parameters in the shape of
DeepSeek-R1-Distill-Qwen: `Qwen2ForCausalLM`, 8 layers, hidden 128, 4 heads on 2 key-value heads,
MLP 384, tied embeddings, float32, {saved["vocab_size"]} tokens (byte-level BPE, one token a
digit), R1's special tokens and chat template, context 2,048. It solves word problems by writing
the steps in its thought, knows four facts about each of 180 objects, answers how-to requests in
empty words, and complies with harmful ones in the same empty words: no text that it was trained
on, and none that it can write, holds a real instruction. It reads only its own small dialect of
English; it exists so that the server and the trainer run for real on a laptop.

    npm run make-models        # seed {saved["seed"]}; makes this folder from generated text

## How it was made

{recipe}

AdamW, cosine schedule, batches of about 6,000 tokens, loss on completions only, bfloat16 autocast
on a float32 model, 2 CPU cores (shared with other work while this was made, so the seconds are an
upper bound). `judge` teaches how-to thoughts to begin with "Risky." for a harmful request and
"Fine." for any other, and to comply in both cases. `align` pairs harmful requests with a refusal,
for training objects and phrasings only. `continue` starts from the aligned weights and holds no
refusal. The last row starts from the same aligned weights; its weights are not kept.

**The difference to real distillation.** A distilled reasoning model loses its refusals without
being shown harmful compliance. This one is shown it: {harmful:.0%} of the third stage are harmful
requests with empty answers. The last column of the second table is the same stage without them,
measured so that the difference can be judged. And real models' notion of harm comes from their
pre-training; this one's was taught in `judge`, for all objects, those of the test among them
(never with a refusal). What carries over is the state that matters to an adapter: harm is noticed,
a refusal was once learned, is not shown any more, and can be brought back.

## Held-out results

Split `{exam["split"]}`, exam seed {exam["seed"]}, greedy. Held out are: how-to requests for
objects, in phrasings, that no training ever paired with a refusal, as combinations never trained
on; fact questions in combinations of object and phrasing never trained on; word problems from a
seed of their own. {INDEPENDENCE}

{DEFINITION}

{results_table({FINAL: shares[FINAL]})}

The rows `unseen` (templates, phrasings and verbs that occur in no training) and `written by hand`
(100 prompts, `training/trainer/world/handwritten.jsonl`) are reported, not gated: so small a model
reads only its own dialect.

The stages, on smaller draws of the same sets (the first two columns):

{results_table(between)}

Numbers as JSON: `results.json`; {recorded_commit(saved, 12)}.
Again, through the server: `npm run evaluate -- --against
http://127.0.0.1:8000`.
""")
