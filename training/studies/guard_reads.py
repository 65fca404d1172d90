"""What a carrier reads of texts, kept on disk: keys and values, hidden states at the marks.

    OUTPUT/NAME/CARRIER/0000.pt …   128 texts each; a part that is there is not read again

python studies/guard_reads.py --model FILE --data-dir DIR --set tests --output runs/guard/reads
python studies/guard_reads.py --model FILE --texts train.jsonl --set train --output …

The system message that all texts begin with is read once. Keys and values are kept as float16.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from guard_tests import choice, tests
from torch import Tensor, nn
from transformers import DynamicCache

from trainer.guard.carrier import carried, read_carrier
from trainer.guard.data import read_examples
from trainer.guard.example import Marked
from trainer.guard.marking import marked
from trainer.guard.reading import Read, listening
from trainer.shared.io import load_model

PART = 128  # texts in a file
TOKENS = 1536  # of a batch, about


@dataclass(frozen=True)
class Kept:
    """All texts of one set, as one carrier has read them; the tensors are mapped, not loaded."""

    rows: list[Marked]
    memory: list[Tensor]  # [layers, 2, kv_heads, length, head_dim] float16
    last: Tensor  # [marks, layers, hidden] float16, the token before the mark
    mean: Tensor  # the same, the mean over the text up to the mark, system message left out

    def reads(self) -> list[Read]:
        return [Read(memory) for memory in self.memory]


def shared_prefix(rows: Sequence[Marked]) -> list[int]:
    """Ids that at least half of the texts begin with, as far as they agree."""
    first = sorted(rows, key=lambda row: row.ids)[len(rows) // 2].ids
    common = 0
    half = len(rows) // 2
    while sum(row.ids[: common + 1] == first[: common + 1] for row in rows) > half:
        common += 1
    return first[:common]


@torch.no_grad()
def keep(
    model: nn.Module, rows: Sequence[Marked], prefix: list[int], folder: Path, turn: int, of: int
) -> None:
    """`of` processes may share the work, each at its turn."""
    folder.mkdir(parents=True, exist_ok=True)
    start = DynamicCache()
    model.model(input_ids=torch.tensor([prefix]), past_key_values=start, use_cache=True)
    began, tokens = time.monotonic(), 0
    for number in range(0, len(rows), PART):
        path = folder / f"{number // PART:04d}.pt"
        if path.exists() or number // PART % of != turn:
            continue
        part = rows[number : number + PART]
        found = read_part(model, part, prefix, start)
        partial = path.with_suffix(".partial")
        torch.save(found, partial)
        partial.replace(path)
        tokens += sum(map(len, part))
        speed = tokens / (time.monotonic() - began)
        print(
            folder.name, folder.parent.name, number + len(part), f"{speed:.0f} tokens/s", flush=True
        )


def read_part(
    model: nn.Module, rows: Sequence[Marked], prefix: list[int], start: DynamicCache
) -> dict[str, Any]:
    found: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    for begins in (True, False):
        mine = [i for i, row in enumerate(rows) if (row.ids[: len(prefix)] == prefix) == begins]
        mine.sort(key=lambda i: len(rows[i]))
        while mine:
            size = max(1, min(len(mine), TOKENS // max(1, len(rows[mine[min(31, len(mine) - 1)]]))))
            chosen, mine = mine[:size], mine[size:]
            batch = [rows[i] for i in chosen]
            skipped = len(prefix) if begins else 0
            for i, read in zip(chosen, read_batch(model, batch, skipped, start), strict=True):
                found[i] = read
    ordered = [found[i] for i in range(len(rows))]
    return {
        "ids": [row.ids for row in rows],
        "memory": [memory for memory, _, _ in ordered],
        "last": torch.cat([last for _, last, _ in ordered]),
        "mean": torch.cat([mean for _, _, mean in ordered]),
    }


def read_batch(
    model: nn.Module, rows: Sequence[Marked], skipped: int, start: DynamicCache
) -> list[tuple[Tensor, Tensor, Tensor]]:
    length = max(map(len, rows)) - skipped
    ids = torch.zeros((len(rows), length), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row) - skipped] = torch.tensor(row.ids[skipped:])
    cache = DynamicCache()
    if skipped:
        cache = DynamicCache(
            [
                (
                    layer.keys.expand(len(rows), -1, -1, -1),
                    layer.values.expand(len(rows), -1, -1, -1),
                )
                for layer in start.layers
            ]
        )
    seen: dict[str, list[Tensor]] = {"residual": [], "mlp": []}
    hooks = listening(model, seen)
    try:
        model.model(input_ids=ids, past_key_values=cache, use_cache=True)
    finally:
        for hook in hooks:
            hook.remove()
    memory = torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])
    out = []
    for i, row in enumerate(rows):
        cuts = [mark.cut - skipped for mark in row.marks]
        layers = torch.stack([layer[i] for layer in seen["residual"]])  # [layers, length, hidden]
        last = torch.stack([layers[:, cut - 1] for cut in cuts])
        mean = torch.stack([layers[:, :cut].mean(1) for cut in cuts])
        kept = memory[:, :, i, :, : len(row)].to(torch.float16)
        out.append((kept, last.to(torch.float16), mean.to(torch.float16)))
    return out


def load(rows: Sequence[Marked], folder: Path, most: int | None = None) -> Kept:
    memory: list[Tensor] = []
    last, mean = [], []
    for path in sorted(folder.glob("*.pt")):
        part = torch.load(path, mmap=True, weights_only=True)
        expected = [row.ids for row in rows[len(memory) : len(memory) + len(part["ids"])]]
        if part["ids"] != expected:
            raise SystemExit(f"{path} holds other texts; remove it")
        memory += part["memory"]
        last.append(part["last"])
        mean.append(part["mean"])
        if most is not None and len(memory) >= most:
            break
    return Kept(list(rows[: len(memory)]), memory, torch.cat(last), torch.cat(mean))


LONGEST = 352  # tokens


def rows_of(tokenizer: Any, name: str, data_dir: Path | None, texts: Path | None) -> list[Marked]:
    """Tests are judged once, at their end; training texts at several places."""
    if texts is not None:
        rows = marked(tokenizer, read_examples(texts), longest=LONGEST, seed=1, most=3)
        return [row for row in rows if row.marks]
    assert data_dir is not None
    examples = {"tests": tests, "choice": choice}[name](data_dir)
    rows = marked(tokenizer, examples, longest=LONGEST)
    return [replace(row, marks=row.marks[-1:]) for row in rows if row.marks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, required=True)
    add("--data-dir", type=Path)
    add("--texts", type=Path, help="JSONL of guard_texts.py")
    add("--set", required=True)
    add("--carrier", default="base")
    add("--adapters", type=Path, default=Path("../adapters"))
    add("--most", type=int, help="texts")
    add("--turn", type=int, default=0)
    add("--of", type=int, default=1, help="processes that read the set together")
    add("--output", type=Path, required=True)
    given = parser.parse_args()
    model, tokenizer = load_model(given.model, "float32")
    model.requires_grad_(False)
    rows = rows_of(tokenizer, given.set, given.data_dir, given.texts)[: given.most]
    prefix = shared_prefix(rows)
    print(len(rows), "texts,", sum(map(len, rows)), "tokens,", len(prefix), "shared", flush=True)
    with carried(model, read_carrier(given.carrier, given.adapters)) as reader:
        folder = given.output / given.set / given.carrier
        keep(reader, rows, prefix, folder, given.turn, given.of)


if __name__ == "__main__":
    main()
