"""Claims about the structure of an update: its stable rank, its overlap with the weights. Pure.

No prompts are involved, so the seeds alone make the interval; with one seed there is none, and
nothing is decided.
"""

from __future__ import annotations

from statistics import fmean

from trainer.reproduce.findings.results import Curve, Results
from trainer.reproduce.findings.verdict import Finding, Verdict
from trainer.reproduce.numbers.estimate import number, over_seeds

METRICS = ("column", "column share", "row", "row share")


def stable_rank_is_high(results: Results) -> list[Finding]:
    full = results.curves["full"]
    per_seed = [fmean(shape.stable_rank for shape in run) for run in full.structure]
    mean = over_seeds(per_seed)
    ranks = sorted(shape.stable_rank for run in full.structure for shape in run)
    above = sum(rank > 4 for rank in ranks) / len(ranks)
    verdict: Verdict = "undecided"
    if mean.seeds > 1 and not mean.low <= 4 <= mean.high:
        verdict = "held" if mean.low > 4 else "not held"
    return [
        Finding(
            verdict,
            f"mean over layers and modules {number(mean)}, from {ranks[0]:.1f} to "
            f"{ranks[-1]:.1f}; {above:.0%} of the matrices above 4 (the paper: 40 to 100 of 5,120 "
            "dimensions, here of 128)",
        )
    ]


def overlap_is_smaller(results: Results) -> list[Finding]:
    """Per metric and module type: mean over layers, LoRA minus full, over seeds."""
    found = []
    lora, full = results.curves["qkvo-mlp-r4"], results.curves["full"]
    for index, metric in enumerate(METRICS):
        lower, higher, modules = 0, 0, module_types(lora)
        for module in modules:
            difference = over_seeds(
                [
                    a - b
                    for a, b in zip(
                        overlap_by_seed(lora, module, index),
                        overlap_by_seed(full, module, index),
                        strict=True,
                    )
                ]
            )
            lower += difference.seeds > 1 and difference.high < 0
            higher += difference.seeds > 1 and difference.low > 0
        half = len(modules) / 2
        verdict: Verdict = "held" if lower > half else "not held" if higher >= half else "undecided"
        found.append(
            Finding(
                verdict,
                f"{metric}: LoRA lower in {lower} of {len(modules)} module types, higher in "
                f"{higher}, the rest within the seeds' interval",
            )
        )
    return found


def module_types(curve: Curve) -> list[str]:
    return list(dict.fromkeys(s.module.rsplit(".", 1)[-1] for run in curve.structure for s in run))


def overlap_by_seed(curve: Curve, module: str, metric: int) -> list[float]:
    return [
        fmean(s.overlap[metric] for s in run if s.module.endswith(module))
        for run in curve.structure
    ]
