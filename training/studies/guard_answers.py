"""The base's own greedy answers for guard_texts.py, one JSONL line each; goes on where it stopped.

python studies/guard_answers.py --model FILE --data-dir DIR --output runs/guard/own.jsonl

Prompts are harmful ones that may train, half of them in frames, and harmless ones, half of which
sound harmful. The file holds a model's answers to harmful prompts: it stays outside the project.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from guard_styles import framed
from guard_texts import Pools

from trainer.answer.decoder import Decoder
from trainer.shared.batches import render_prompt
from trainer.shared.io import json_lines, load_model

TOKENS, BATCH = 72, 32


def prompts(data_dir: Path, seed: int, n: int) -> list[tuple[str, str]]:
    """(kind, prompt), `n` of each kind; harmful ones from every source alike."""
    pools = Pools(data_dir, seed)
    rng = random.Random(f"{seed}/own answers")
    harmful = [rng.sample(texts, min(n // 6, len(texts))) for texts in pools.harmful.values()]
    harmless = [
        rng.sample(pairs, min(n // 4, len(pairs)))
        for name, pairs in pools.harmless.items()
        if name not in ("gsm8k_train_4500", "mbpp")
    ]
    found = [("harmful", text) for texts in harmful for text in texts]
    found += [("benign", text) for pairs in harmless for text, _ in pairs]
    rng.shuffle(found)
    return [(kind, framed(rng, text) if rng.random() < 0.4 else text) for kind, text in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True)
    add("--data-dir", type=Path, required=True)
    add("--output", type=Path, required=True)
    add("--n", type=int, default=260)
    add("--seed", type=int, default=1)
    given = parser.parse_args()
    done = {row["prompt"] for row in json_lines(given.output)} if given.output.exists() else set()
    asked = [(k, p) for k, p in prompts(given.data_dir, given.seed, given.n) if p not in done]
    asked.sort(key=lambda pair: len(pair[1]))
    model, tokenizer = load_model(given.model, "float32")
    decoder = Decoder(model.config, model.state_dict())
    order = list(range(0, len(asked), BATCH))
    random.Random(given.seed).shuffle(order)
    for start in order:
        batch = asked[start : start + BATCH]
        with torch.inference_mode():
            rendered = [render_prompt(tokenizer, [("user", prompt)]) for _, prompt in batch]
            ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
            written = decoder.write(ids, eos_id=tokenizer.eos_token_id, limit=TOKENS)
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        with given.output.open("a", encoding="utf-8") as file:
            for (kind, prompt), text in zip(batch, texts, strict=True):
                row = {"prompt": prompt, "kind": kind, "text": text.strip()}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(start, len(asked), flush=True)


if __name__ == "__main__":
    main()
