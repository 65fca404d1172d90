"""The training benchmark: its workloads, its ratios, and that both sides learn the same."""

import csv
import json
import sys
from pathlib import Path
from statistics import median

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # speed is not installed

from speed import report, results, rounds, worker
from speed.machine import cpu_slug
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


RUNS = [
    {
        "workload": "spread",
        "round": number,
        "kind": kind,
        "seconds": seconds,
        "cpu_seconds": seconds,
        "peak_bytes": peak,
        "load": 0.5,
        "losses": [2.0, 1.0],
        "padding": 0.1,
        "weight_bytes": 1 << 20,
    }
    for number, stock_seconds in enumerate((14.0, 17.0, 30.0), start=1)
    for kind, seconds, peak in (("ours", 10.0, 60), ("stock", stock_seconds, 100))
]


def test_a_ratio_is_the_median_of_rounds_and_a_target_says_whether_it_is_met():
    speed, _, memory = report.ratios(RUNS)
    assert speed.values == pytest.approx([1.4, 1.7, 3.0])
    assert (speed.verdict(), memory.verdict()) == ("met", "**not met**")


def result(**more):
    recipe = read_config(CONFIGS / "method.json", {}).recipe.as_json()
    return {
        "command": "npm run train-bench",
        "commit": "0123456789ab",
        "dirty": False,
        "date": "2026-01-01T00:00Z",
        "machine": "AMD EPYC, 2 cores",
        "slug": "epyc-zen4",
        "versions": "torch 2",
        "shape": "toy",
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
        "gradient_checkpointing": False,
        "recipe": recipe,
        "lengths": {"spread": [40, 50, 60]},
        "checks": [],
        "runs": RUNS,
    } | more


def test_a_run_is_its_machines_latest_and_a_line_of_history_for_each_comparison(tmp_path):
    for number in (1, 2):
        page = results.write_latest(result(command=f"run {number}"), tmp_path)
        results.append_history(result(command=f"run {number}"), tmp_path)
    assert json.loads((page.parent / "latest.json").read_text())["command"] == "run 2"
    assert page.read_text().count("run 2") == 1 and page.parent.name == "epyc-zen4"
    with (tmp_path / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["command"] for row in rows] == ["run 1"] * 3 + ["run 2"] * 3
    assert rows[0] == {
        "date": "2026-01-01T00:00Z", "commit": "0123456789ab", "dirty": "no",
        "machine": "epyc-zen4", "workload": "spread",
        "comparison": "seconds: stock over ours", "median": "1.700", "min": "1.400",
        "max": "3.000", "command": "run 1",
    }  # fmt: skip


def test_a_page_says_whether_the_sources_had_changes():
    def commit_of(dirty):
        return " ".join(report.page(result(dirty=dirty)).split()).split(" · ")[1]

    assert commit_of(True) == "commit 0123456789ab with changes"
    assert commit_of(False) == "commit 0123456789ab"
    assert commit_of(None) == "commit 0123456789ab (whether with changes was not recorded)"


@pytest.mark.parametrize(
    "vendor, family, model, flags, slug",
    [
        ("AuthenticAMD", 25, "AMD EPYC", "avx2 avx512f", "epyc-zen4"),
        ("AuthenticAMD", 25, "AMD EPYC", "avx2", "epyc-zen3-avx2"),
        ("AuthenticAMD", 26, "AMD EPYC 9965 192-Core Processor", "avx2 avx512f", "epyc-9965-zen5"),
        ("GenuineIntel", 6, "Intel(R) Xeon(R) CPU @ 2.2GHz", "avx2 avx512f amx_tile", "xeon-amx"),
        ("GenuineIntel", 6, "Intel(R) Xeon(R) Processor", "avx2 avx512f", "xeon-avx512"),
        ("GenuineIntel", 6, "12th Gen Intel(R) Core(TM) i7", "avx2", "12th-gen-core-i7-avx2"),
    ],
)
def test_a_machines_slug_is_its_model_and_instruction_set(vendor, family, model, flags, slug):
    lines = {"vendor_id": vendor, "cpu family": family, "model name": model, "flags": flags}
    core = "\n".join(f"{name}\t: {value}" for name, value in lines.items())
    assert cpu_slug(f"{core}\n\n{core}\n") == slug


def test_the_committed_results_are_what_their_json_says_and_stand_in_the_history():
    home = Path(__file__).resolve().parent.parent / "speed" / "results"
    with (home / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == results.COLUMNS
    assert rows[1:] == sorted(rows[1:], key=lambda row: row[0])
    found = sorted(home.glob("*/latest.json"))
    assert found
    for path in found:
        saved = json.loads(path.read_text(encoding="utf-8"))
        assert path.parent.name == saved["slug"]
        assert path.with_suffix(".md").read_text(encoding="utf-8") == report.page(saved)
        assert all(row in rows for row in results.history_rows(saved))
