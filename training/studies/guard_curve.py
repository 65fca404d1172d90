"""Judges over data and rank on kept reads: one JSONL row for each, and a row is not made twice.

python studies/guard_curve.py probes  --sizes 300,1200,all …
python studies/guard_curve.py verdict --rank 16 --texts 1800 --learning-rate 0.001 --epochs 4 …
python studies/guard_curve.py carriers --rank 16 … of a verdict that is there; tests of each carrier

Layer, decay and learning rate are chosen by `choice` of guard_tests.py, never by the tests.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from guard_reads import Kept, load, rows_of
from guard_tests import MEAN
from torch import Tensor

from trainer.guard.example import Marked
from trainer.guard.fitting import adapted, fit_guard, margins, source_weights
from trainer.guard.guard_recipe import MODULES, GuardRecipe
from trainer.guard.probe import fit_direction
from trainer.guard.scores import auroc
from trainer.guard.tokens import guard_tokens
from trainer.shared.io import json_lines, load_model

RESAMPLES = 1000


@dataclass(frozen=True)
class Labelled:
    """One verdict a text."""

    sources: np.ndarray
    unsafe: np.ndarray

    @staticmethod
    def of(rows: Sequence[Marked]) -> Labelled:
        return Labelled(
            np.array([row.example.source for row in rows]),
            np.array([row.marks[-1].unsafe for row in rows]),
        )

    def areas(self, scores: np.ndarray) -> dict[str, float]:
        found = {}
        for name in dict.fromkeys(self.sources.tolist()):
            mine = self.sources == name
            area = auroc(scores[mine], self.unsafe[mine])
            if area is not None:
                found[name] = round(area, 4)
        return found

    def interval(self, scores: np.ndarray) -> tuple[dict[str, list[float]], list[float]]:
        """95 % of resamples, of each source and of the mean over MEAN."""
        rng = np.random.default_rng(1)
        drawn: dict[str, np.ndarray] = {}
        for name in dict.fromkeys(self.sources.tolist()):
            mine = np.flatnonzero(self.sources == name)
            high, low = mine[self.unsafe[mine]], mine[~self.unsafe[mine]]
            if not len(high) or not len(low):
                continue
            ahead = scores[high][:, None] - scores[low]
            wins = (ahead > 0) + 0.5 * (ahead == 0)
            a = rng.multinomial(len(high), np.full(len(high), 1 / len(high)), RESAMPLES)
            b = rng.multinomial(len(low), np.full(len(low), 1 / len(low)), RESAMPLES)
            drawn[name] = ((a @ wins) * b).sum(1) / wins.size
        mean = np.mean([drawn[name] for name in MEAN], axis=0)

        def ends(values: np.ndarray) -> list[float]:
            return [round(float(v), 4) for v in np.quantile(values, (0.025, 0.975))]

        return {name: ends(values) for name, values in drawn.items()}, ends(mean)


def mean_of(areas: dict[str, float], names: Sequence[str] = MEAN) -> float:
    return round(float(np.mean([areas[name] for name in names])), 4)


class Curve:
    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.model, self.tokenizer = load_model(given.model, "float32")
        self.model.requires_grad_(False)
        self.tokens = guard_tokens(self.tokenizer)
        self.tests = self.kept("tests")
        self.choice = self.kept("choice")
        self.labels = Labelled.of(self.tests.rows)
        self.choice_labels = Labelled.of(self.choice.rows)
        self.done = json_lines(given.output) if given.output.exists() else []

    def kept(self, name: str, most: int | None = None) -> Kept:
        given = self.given
        texts = given.train if name == "train" else None
        rows = rows_of(self.tokenizer, name, given.data_dir, texts)
        return load(rows, given.reads / name / given.carrier, most)

    def report(
        self, about: dict[str, Any], test: np.ndarray, choice: np.ndarray, **more: Any
    ) -> dict[str, Any]:
        """A row of the table; the scores themselves lie beside it."""
        np.savez(self.beside("scores", about, "npz"), test=test, choice=choice)
        areas, chosen = self.labels.areas(test), self.choice_labels.areas(choice)
        ends, mean_ends = self.labels.interval(test)
        row = {
            **about,
            "mean": mean_of(areas),
            "mean_interval": mean_ends,
            "auroc": areas,
            "intervals": ends,
            "choice": round(float(np.mean(list(chosen.values()))), 4),
            "choices": chosen,
            **more,
        }
        with self.given.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        told = {k: v for k, v in row.items() if k not in ("intervals",)}
        print(json.dumps(told), flush=True)
        return row

    def beside(self, kind: str, about: dict[str, Any], suffix: str) -> Path:
        mark = sha256(json.dumps(about).encode()).hexdigest()[:12]
        return self.given.output.with_name(f"{kind}-{mark}.{suffix}")

    def is_done(self, about: dict[str, Any]) -> bool:
        about = {"part_of": None} | about
        return any(all(row.get(k) == v for k, v in about.items()) for row in self.done)

    # --- probes
    def probes(self, sizes: Sequence[int]) -> None:
        train = self.kept("train", max(sizes))
        for size in sizes:
            rows = train.rows[:size]
            marks = sum(len(row.marks) for row in rows)
            weights = torch.tensor([w for ws in source_weights(rows) for w in ws])
            unsafe = torch.tensor([m.unsafe for row in rows for m in row.marks])
            for pool in ("last", "mean"):
                self.layers(pool, len(rows), getattr(train, pool)[:marks], unsafe, weights)

    def layers(self, pool: str, size: int, x: Tensor, unsafe: Tensor, weights: Tensor) -> None:
        test, choice = getattr(self.tests, pool), getattr(self.choice, pool)
        decay = 0.03
        for chosen in (*([n] for n in range(5, x.shape[1], 3)), [8, 12, 16, 20, 24, 28]):
            name = ",".join(map(str, chosen))
            about = {"judge": "probe", "pool": pool, "layer": name, "texts": size, "decay": decay}
            if self.is_done(about):
                continue
            w, b = fit_direction(
                x[:, chosen].float().flatten(1), unsafe, weights=weights, decay=decay
            )
            self.report(
                about,
                (test[:, chosen].float().flatten(1) @ w + b).numpy(),
                (choice[:, chosen].float().flatten(1) @ w + b).numpy(),
            )

    # --- verdicts
    def verdict(self, size: int, recipe: GuardRecipe, save: Path | None) -> None:
        about = {"judge": "verdict", "rank": recipe.rank, "texts": size,
                 "learning_rate": recipe.learning_rate, "epochs": recipe.epochs,
                 "batch_size": recipe.batch_size, "dropout": recipe.dropout,
                 "weight_decay": recipe.weight_decay, "modules": len(recipe.modules),
                 "seed": recipe.seed}  # fmt: skip
        if self.given.what == "verdict" and self.is_done(about):
            return
        train = self.kept("train", size)
        rows, reads = train.rows[:size], train.reads()[:size]
        model = adapted(self.model, recipe, self.tokens, "base")
        began, losses = time.monotonic(), []

        def after(epoch: int, loss: float) -> None:
            losses.append(round(loss, 4))
            print("epoch", epoch, losses, round(time.monotonic() - began), "s", flush=True)

        state = self.beside("state", about, "pt")
        fit_guard(model, rows, reads, self.tokens, recipe, saved=save or state, after_epoch=after)
        if self.given.what == "carriers":
            self.carriers(about, model)
            return
        seconds = round(time.monotonic() - began)
        test, choice = self.judged(model, self.tests), self.judged(model, self.choice)
        self.report(about, test, choice, losses=losses, seconds=seconds)
        model.unload()

    def carriers(self, about: dict[str, Any], model: Any) -> None:
        """The same first texts of the tests on each carrier that has read some."""
        folders = sorted((self.given.reads / "tests").iterdir())
        found = [load(self.tests.rows, folder) for folder in folders]
        most = min(len(kept.rows) for kept in found)
        for folder, kept in zip(folders, found, strict=True):
            same = replace(kept, rows=kept.rows[:most], memory=kept.memory[:most])
            areas = Labelled.of(same.rows).areas(self.judged(model, same))
            row = {"carrier": folder.name, **about, "n": most, "auroc": areas}
            with self.given.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)

    def judged(self, model: Any, kept: Kept) -> np.ndarray:
        found = margins(model, kept.rows, kept.reads(), self.tokens, rows_per_batch=48)
        return np.array([values[-1] for values in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("what", choices=("probes", "verdict", "carriers"))
    add("--model", type=Path, required=True)
    add("--data-dir", type=Path, required=True)
    add("--train", type=Path, required=True, help="JSONL of guard_texts.py")
    add("--reads", type=Path, required=True, help="of guard_reads.py")
    add("--carrier", default="base")
    add("--output", type=Path, required=True, help="JSONL")
    add("--sizes", default="300,600,1200,100000")
    add("--texts", type=int, default=100_000)
    add("--rank", type=int, default=16)
    add("--alpha", type=int, help="twice the rank, if not given")
    add("--learning-rate", type=float, default=1e-3)
    add("--weight-decay", type=float, default=0.05)
    add("--dropout", type=float, default=0.0)
    add("--epochs", type=int, default=3)
    add("--batch-size", type=int, default=32)
    add("--with-kv", action="store_true", help="k_proj and v_proj too")
    add("--seed", type=int, default=1)
    add("--save", type=Path, help="the state after each epoch, weights in it")
    given = parser.parse_args()
    curve = Curve(given)
    if given.what == "probes":
        curve.probes([int(size) for size in given.sizes.split(",")])
        return
    modules = (*MODULES, "k_proj", "v_proj") if given.with_kv else MODULES
    recipe = GuardRecipe(
        rank=given.rank, alpha=given.alpha or 2 * given.rank, modules=modules,
        learning_rate=given.learning_rate,
        weight_decay=given.weight_decay, dropout=given.dropout, epochs=given.epochs,
        batch_size=given.batch_size, seed=given.seed,
    )  # fmt: skip
    curve.verdict(given.texts, recipe, given.save)


if __name__ == "__main__":
    main()
