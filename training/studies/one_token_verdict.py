"""Is one token enough? AUROC of a one-token verdict, of a full pass of the guard, of probes.

python studies/one_token_verdict.py --output runs/verdict.jsonl
python studies/one_token_verdict.py --model FILE.gguf --data DIR --carriers base,… --output FILE

Each row that is printed and appended is one judge on one carrier: AUROC by source and part. A judge
that is in the file already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainer.guard.carrier import Carrier, carried, read_carrier
from trainer.guard.data import file_material
from trainer.guard.example import Marked
from trainer.guard.fitting import adapted, fit_guard, margins, source_weights
from trainer.guard.guard_recipe import MODULES, GuardRecipe
from trainer.guard.material import Material
from trainer.guard.probe import fit_direction, mean_difference
from trainer.guard.reading import Read, read_texts
from trainer.guard.scores import auroc
from trainer.guard.tokens import guard_tokens
from trainer.guard.train_guard import read_by_carriers
from trainer.guard.verdict import Tokens
from trainer.guard.world_material import world_material
from trainer.shared.io import load_model

CARRIERS = "base,safety-r1@0.5,safety-r1@1,safety-r1@1.5,safety-r1@1+terse-r1@1"
KV = (*MODULES, "k_proj", "v_proj")
# name -> what differs from rank 16 on q, o, gate, up, down, one token
VARIANTS: dict[str, dict[str, Any]] = {
    "verdict r16": {},
    "full pass r16": {"full": True},
    "verdict r16, base only": {"only": "base"},
    "verdict r1": {"rank": 1, "alpha": 2},
    "verdict r4": {"rank": 4, "alpha": 8},
    "verdict r8": {"rank": 8, "alpha": 16},
    "verdict r32": {"rank": 32, "alpha": 64},
    "verdict r16 with k, v": {"modules": KV},
    "verdict r16, q o": {"modules": ("q_proj", "o_proj")},
    "verdict r16, MLP": {"modules": ("gate_proj", "up_proj", "down_proj")},
    "verdict r16, 2 tokens": {"suffix": 2},
    "verdict r16, 4 tokens": {"suffix": 4},
    "verdict r16, other labels": {"labels": True},
}


class Study:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.path = arguments, arguments.output
        self.dtype = getattr(torch, arguments.dtype)
        self.done = set()
        if self.path.is_file():
            rows = [json.loads(line) for line in self.path.read_text().splitlines()]
            self.done = {row["judge"] for row in rows}
        self.model, self.tokenizer = load_model(arguments.model, "float32")
        self.tokens = guard_tokens(self.tokenizer)
        names = arguments.carriers.split(",")
        self.carriers = [read_carrier(name, arguments.adapters) for name in names]
        self.material = self.read_material()
        self.train_reads = self.reads_of(self.carriers)
        self.test_reads: dict[str, list[Read]] = {}
        self.valid_reads: dict[str, list[Read]] = {}
        for carrier in self.carriers:
            with carried(self.model, carrier, self.dtype) as reader:
                self.test_reads[carrier.name] = read_texts(
                    reader, self.material.test, features=True
                )
            if carrier is self.carriers[0]:
                with carried(self.model, carrier, self.dtype) as reader:
                    self.valid_reads[carrier.name] = read_texts(
                        reader, self.material.validation, features=True
                    )
            print("read", carrier.name, file=sys.stderr, flush=True)

    def reads_of(self, carriers: list[Carrier]) -> list[Read]:
        self.model.requires_grad_(False)
        return read_by_carriers(self.model, self.material.train, carriers, self.dtype)

    def read_material(self) -> Material:
        given = self.arguments
        if given.data is None:
            return world_material(self.tokenizer, texts=given.texts, n=given.n, longest=512, seed=1)
        found = file_material(
            self.tokenizer, given.data / "train.jsonl", given.data / "validation.jsonl",
            given.data / "test.jsonl", longest=given.longest, seed=1,
        )  # fmt: skip
        order = np.random.default_rng(1)
        some = order.permutation(len(found.train))[: given.texts]
        groups: dict[tuple[str, str], list[Marked]] = {}
        for i in order.permutation(len(found.test)):
            row = found.test[i]
            group = groups.setdefault((row.example.source, row.marks[-1].part), [])
            if len(group) < given.n:
                group.append(replace(row, marks=row.marks[-1:]))
        some_valid = order.permutation(len(found.validation))[:500]
        return replace(
            found,
            train=[found.train[i] for i in some],
            validation=[found.validation[i] for i in some_valid],
            test=[row for group in groups.values() for row in group],
        )

    def report(self, judge: str, carrier: str, logits: list[list[float]], seconds: float) -> None:
        pooled: dict[str, list[tuple[float, bool]]] = {}
        for row, values in zip(self.material.test, logits, strict=True):
            for mark, value in zip(row.marks, values, strict=True):
                key = f"{row.example.source}, {mark.part}"
                pooled.setdefault(key, []).append((value, mark.unsafe))
        areas = {}
        for key, pairs in pooled.items():
            area = auroc(np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]))
            areas[key] = None if area is None else round(area, 4)
        line = {"judge": judge, "carrier": carrier, "auroc": areas, "seconds": round(seconds),
                "n": {key: len(pairs) for key, pairs in pooled.items()}}  # fmt: skip
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def guard(self, judge: str, variant: dict[str, Any]) -> None:
        started = time.monotonic()
        given = self.arguments
        recipe = GuardRecipe(
            rank=variant.get("rank", 16), alpha=variant.get("alpha", 32),
            modules=variant.get("modules", MODULES), learning_rate=given.learning_rate,
            epochs=given.epochs, batch_size=given.batch_size,
            weight_decay=given.weight_decay,
        )  # fmt: skip
        tokens = replace(self.tokens, suffix=variant.get("suffix", 1))
        if variant.get("labels"):
            ids = self.tokenizer(["Yes", "No"], add_special_tokens=False)["input_ids"]
            tokens = replace(tokens, safe=ids[1][0], unsafe=ids[0][0])
        is_full = variant.get("full", False)
        reads = self.train_reads
        if variant.get("only"):
            reads = self.reads_of(self.carriers[:1])
        model = adapted(self.model, recipe, tokens, "base")
        fit_guard(model, self.material.train, None if is_full else reads, tokens, recipe)
        seconds = time.monotonic() - started
        self.judge(judge, model, tokens, is_full, seconds)
        if judge == "verdict r16":
            self.judge("the same weights, full pass", model, tokens, True, seconds)
        model.unload()  # the base is as it was

    def judge(self, judge: str, model: Any, tokens: Tokens, is_full: bool, seconds: float) -> None:
        carriers = self.carriers[:1] if is_full else self.carriers
        for carrier in carriers:
            reads = None if is_full else self.test_reads[carrier.name]
            name = "none" if is_full else carrier.name
            values = margins(model, self.material.test, reads, tokens, rows_per_batch=16)
            self.report(judge, name, values, seconds)

    def probes(self) -> None:
        rows, valid = self.material.train, self.material.validation
        weights = torch.tensor([w for ws in source_weights(rows) for w in ws])
        unsafe = torch.tensor([m.unsafe for row in rows for m in row.marks])
        valid_unsafe = np.array([m.unsafe for row in valid for m in row.marks])
        for site in ("residual", "mlp"):
            x = torch.cat([getattr(read, site).float() for read in self.train_reads])
            held = torch.cat(
                [getattr(r, site).float() for r in self.valid_reads[self.carriers[0].name]]
            )
            for kind in ("logistic", "mean difference"):
                found = []
                for layer in range(x.shape[1]):
                    if kind == "logistic":
                        w, b = fit_direction(x[:, layer], unsafe, weights=weights)
                    else:
                        w, b = mean_difference(x[:, layer], unsafe)
                    area = auroc((held[:, layer] @ w + b).numpy(), valid_unsafe)
                    found.append((area, layer, w, b))
                _, layer, w, b = max(found, key=lambda f: f[0])
                for carrier in self.carriers:
                    logits = [
                        (getattr(read, site)[:, layer].float() @ w + b).tolist()
                        for read in self.test_reads[carrier.name]
                    ]
                    self.report(f"probe {site} {layer}, {kind}", carrier.name, logits, 0)

    def run(self) -> None:
        if not any(name.startswith("probe") for name in self.done):
            self.probes()
        for judge in self.arguments.judges.split(",") if self.arguments.judges else VARIANTS:
            name = judge.replace(";", ",")
            if name not in self.done:
                self.guard(name, VARIANTS[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model", type=Path, default=Path("models/tiny-reasoner"))
    add("--adapters", type=Path, default=Path("adapters"))
    add("--carriers", default=CARRIERS)
    add("--data", type=Path, help="a folder of train, validation and test.jsonl")
    add("--texts", type=int, default=2500)
    add("--n", type=int, default=200)
    add("--longest", type=int, default=224)
    add("--epochs", type=int, default=4)
    add("--learning-rate", type=float, default=2e-3)
    add("--weight-decay", type=float, default=0.01)
    add("--batch-size", type=int, default=64)
    add("--dtype", default="float32")
    add("--judges", default="", help="among the variants, ; for a comma in a name")
    add("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    Study(arguments).run()


if __name__ == "__main__":
    main()
