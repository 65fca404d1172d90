"""The training benchmark: its workloads, its ratios, and that both sides learn the same."""

import sys
from pathlib import Path
from statistics import median

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # bench is not installed

from speed import report, rounds, worker
from speed.workloads import lengths_of, rows_of
from trainer.shared.recipe import CONFIGS, read_config


def job(kind):
    given = {"layers": "middle", "epochs": 2, "batch_size": 2, "dropout": 0.0}
    recipe = read_config(CONFIGS / "method.json", given | {"learning_rate": 1e-3}).recipe
    return worker.Job(
        kind=kind,
        workload="spread",
        shape="toy",
        device="cpu",
        dtype="float32",
        rows=7,
        seed=1,
        threads=torch.get_num_threads(),
        recipe=recipe,
        prefix_cache="memory",
        gradient_checkpointing=False,
    )


def test_fit_and_the_stock_trainer_end_at_the_same_loss_and_adapter():
    ours, stock = worker.run(job("ours")), worker.run(job("stock-ordered"))
    assert ours.losses == pytest.approx(stock.losses, rel=rounds.LOSS_TOLERANCE)
    assert rounds.distance(ours.update, stock.update) < rounds.UPDATE_TOLERANCE
    assert ours.losses[1] < ours.losses[0]
    assert 0 <= ours.padding <= stock.padding


def test_lengths_are_the_distribution_it_says_whatever_their_number():
    prompts = [prompt for prompt, _ in lengths_of("spread", 400, seed=1)]
    assert median(prompts) == 35
    assert (min(prompts), max(prompts)) == (10, 291)
    assert {completion for _, completion in lengths_of("spread", 400, 1)} == set(range(25, 41))
    assert {len(row) for row in rows_of("equal", 5, 800, seed=1)} == {128}
    assert lengths_of("spread", 9, seed=1) == lengths_of("spread", 9, seed=1)


def test_a_ratio_is_the_median_of_rounds_and_a_target_says_whether_it_is_met():
    runs = [
        {
            "workload": "spread",
            "round": number,
            "kind": kind,
            "seconds": seconds,
            "cpu_seconds": seconds,
            "peak_bytes": peak,
        }
        for number, stock_seconds in enumerate((14.0, 17.0, 30.0), start=1)
        for kind, seconds, peak in (("ours", 10.0, 60), ("stock", stock_seconds, 100))
    ]
    speed, _, memory = report.ratios(runs)
    assert speed.values == pytest.approx([1.4, 1.7, 3.0])
    assert (speed.verdict(), memory.verdict()) == ("met", "**not met**")
