"""Each claim of the paper, decided by code from the numbers and their intervals. Pure.

A verdict needs its whole 95 % interval on one side: "held" or "not held"; everything else is
"undecided", and says what was seen. A difference counts from `MARGIN` on: "on par" allows less
than that, and a "better" whose interval lies within it on both sides is not held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from trainer.reproduce.estimate import Estimate, over_seeds
from trainer.reproduce.results import Curve, Results

Verdict = Literal["held", "not held", "undecided"]
MARGIN = 0.05
METRICS = ("column", "column share", "row", "row share")


@dataclass(frozen=True)
class Finding:
    """One comparison, its verdict and its numbers in words."""

    verdict: Verdict
    numbers: str


@dataclass(frozen=True)
class Claim:
    figure: str
    statement: str
    needs: tuple[str, ...]  # configurations
    decide: Callable[[Results], Sequence[Finding]]


@dataclass(frozen=True)
class Decision:
    claim: Claim
    verdict: Verdict | Literal["not measured"]
    findings: tuple[Finding, ...]


def decided(results: Results, claims: Sequence[Claim]) -> list[Decision]:
    decisions = []
    for claim in claims:
        # A seed whose training failed leaves nothing to pair the others' runs with.
        if any(name not in results.curves or results.curves[name].failures for name in claim.needs):
            decisions.append(Decision(claim, "not measured", ()))
            continue
        findings = tuple(claim.decide(results))
        decisions.append(Decision(claim, together([f.verdict for f in findings]), findings))
    return decisions


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """All must hold; one that does not is enough."""
    if "not held" in verdicts:
        return "not held"
    return "undecided" if "undecided" in verdicts or not verdicts else "held"


# --- rules -------------------------------------------------------------------------------------


def better(difference: Estimate, margin: float = MARGIN) -> Verdict:
    if difference.low > 0:
        return "held"
    if difference.high < 0 or (difference.low > -margin and difference.high < margin):
        return "not held"
    return "undecided"


def not_worse(difference: Estimate, margin: float = MARGIN) -> Verdict:
    if difference.low > -margin:
        return "held"
    return "not held" if difference.high < -margin else "undecided"


def negated(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low, estimate.n, estimate.seeds)


def points(difference: Estimate) -> str:
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def percent(estimate: Estimate) -> str:
    value, low, high = (100 * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:.1f}% [{low:.1f}, {high:.1f}]"


def number(estimate: Estimate, digits: int = 2) -> str:
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


# --- comparisons -------------------------------------------------------------------------------


def area_difference(one: Curve, other: Curve, measure: str = "word_problem") -> Estimate:
    """Area under the frontier of `one` minus that of `other`.

    Seeds: a t interval over the paired differences. Prompts: an area moves at most as far as its
    best point's two shares do, so theirs are added."""
    seeds = over_seeds(
        [a - b for a, b in zip(one.areas(measure), other.areas(measure), strict=True)]
    )
    sides = [one.best.minus(other.best, name) for name in ("safe", measure)]
    spread = seeds.high - seeds.value
    prompts = [(side.high - side.low) / 2 for side in sides]
    half = (spread**2 + sum(width**2 for width in prompts)) ** 0.5
    return Estimate(seeds.value, seeds.value - half, seeds.value + half, sides[0].n, seeds.seeds)


def frontier_finding(one: Curve, other: Curve, rule: Callable[[Estimate], Verdict]) -> Finding:
    difference = area_difference(one, other)
    names = f"{one.configuration.label} against {other.configuration.label}"
    return Finding(
        rule(difference),
        f"frontier area, {names}: {points(difference)}; areas {100 * fmean(one.areas()):.1f} and "
        f"{100 * fmean(other.areas()):.1f}",
    )


def frontiers(
    one: str, others: Sequence[str], rule: Callable[[Estimate], Verdict]
) -> Callable[[Results], list[Finding]]:
    return lambda results: [
        frontier_finding(results.curves[one], results.curves[other], rule) for other in others
    ]


def full_gains_safety_and_loses_reasoning(results: Results) -> list[Finding]:
    full, base = results.curves["full"].last, results.base
    safety, loss = full.minus(base, "safe"), full.minus(base, "word_problem")
    kept = full.minus(base, "fact")
    return [
        Finding(better(safety), f"safety_score, last epoch minus base: {points(safety)}"),
        Finding(
            better(negated(loss)),
            f"word problems, last epoch minus base: {points(loss)} (facts {points(kept)}, which "
            "the verdict does not count)",
        ),
    ]


def lora_is_as_safe(results: Results) -> list[Finding]:
    lora, full = results.curves["mlp-r1"], results.curves["full"]
    found = []
    for name, one, other in (("best", lora.best, full.best), ("last", lora.last, full.last)):
        difference = one.minus(other, "safe")
        found.append(
            Finding(
                not_worse(difference),
                f"safety_score at the {name} epochs, LoRA minus full: {points(difference)}",
            )
        )
    return found


def lora_keeps_reasoning(results: Results) -> list[Finding]:
    best = results.curves["mlp-r1"].best
    return [
        Finding(
            not_worse(best.minus(results.base, measure)),
            f"{name}, best epoch minus base: {points(best.minus(results.base, measure))}",
        )
        for measure, name in (("word_problem", "word problems"), ("fact", "facts"))
    ]


def lora_reasons_better_than_full(results: Results) -> list[Finding]:
    lora, full = results.curves["mlp-r1"], results.curves["full"]
    return [
        Finding(
            better(one.minus(other, "word_problem")),
            f"word problems at the {name} epochs, LoRA minus full: "
            f"{points(one.minus(other, 'word_problem'))}",
        )
        for name, one, other in (("best", lora.best, full.best), ("last", lora.last, full.last))
    ]


def reasoning_falls_with_rank(results: Results) -> list[Finding]:
    first = results.curves["mlp-r1"].last
    found = []
    for name in ("mlp-r64", "full"):
        curve = results.curves[name]
        fall = first.minus(curve.last, "word_problem")
        label = curve.configuration.label
        found.append(
            Finding(better(fall), f"word problems, last epoch, r=1 minus {label}: {points(fall)}")
        )
    return found


def safety_dips(results: Results) -> list[Finding]:
    ends = (results.curves["mlp-r1"].last, results.curves["full"].last)
    middle = results.curves["mlp-r64"].last
    return [
        Finding(
            better(end.minus(middle, "safe")),
            f"safety_score, last epoch, {name} minus r=64: {points(end.minus(middle, 'safe'))}",
        )
        for name, end in zip(("r=1", "full"), ends, strict=True)
    ]


def stable_rank_is_high(results: Results) -> list[Finding]:
    full = results.curves["full"]
    per_seed = [fmean(shape.stable_rank for shape in run) for run in full.structure]
    mean = over_seeds(per_seed)
    ranks = sorted(shape.stable_rank for run in full.structure for shape in run)
    above = sum(rank > 4 for rank in ranks) / len(ranks)
    verdict: Verdict = "held" if mean.low > 4 else "not held" if mean.high < 4 else "undecided"
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
            lower += difference.high < 0
            higher += difference.low > 0
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


MERGED = ("up-r1", "qkvo-mlp-r4")  # configurations whose factors are projected


def share_k(curve: Curve) -> int:
    """The k that keeps the paper's share of the space: the smallest that was measured."""
    return min(merge.k for merge in curve.merges)


def orthomerge_gains(results: Results) -> list[Finding]:
    """The best variant against the best epoch of what it was made from."""
    found = []
    for name in MERGED:
        curve = results.curves[name]
        variants = [merge.stage for merge in curve.merges if merge.mode == "both"]
        best = max(variants, key=lambda stage: stage.balance)
        differences = [best.minus(curve.best, m) for m in ("safe", "word_problem")]
        ups = [better(d) for d in differences]
        # Better in one and not worse in the other dominates.
        keeps = [not_worse(d, margin=0.02) for d in differences]
        if ("held" in ups) and all(v == "held" for v in keeps):
            verdict: Verdict = "held"
        elif all(v == "not held" for v in ups):
            verdict = "not held"
        else:
            verdict = "undecided"
        safety, reasoning = map(points, differences)
        found.append(
            Finding(
                verdict,
                f"{best.label} minus the same without it: safety_score {safety}, word problems "
                f"{reasoning}",
            )
        )
    return found


def projection_costs_safety(results: Results) -> list[Finding]:
    found = []
    for name in MERGED:
        curve = results.curves[name]
        k = share_k(curve)
        plain = next(m for m in curve.merges if (m.mode, m.k, m.strength) == ("both", k, 1.0))
        scaled = max(
            (m for m in curve.merges if m.mode == "both" and m.k == k and m.strength > 1),
            key=lambda m: m.stage.mean("safe"),
        )
        loss = curve.last.minus(plain.stage, "safe")
        gain = scaled.stage.minus(plain.stage, "safe")
        label = curve.configuration.label
        found += [
            Finding(
                better(loss),
                f"{label}, k={k}: safety_score lost by the projection: {points(loss)}",
            ),
            Finding(
                better(gain),
                f"{label}, k={k}: safety_score won back by λ={scaled.strength:g}: {points(gain)}",
            ),
        ]
    return found


def both_beats_column(results: Results) -> list[Finding]:
    found = []
    for name in MERGED:
        curve = results.curves[name]
        best = {
            mode: max(
                (m.stage for m in curve.merges if m.mode == mode), key=lambda stage: stage.balance
            )
            for mode in ("col", "both")
        }
        differences = [best["both"].minus(best["col"], m) for m in ("safe", "word_problem")]
        mean = averaged(differences)
        found.append(
            Finding(
                better(mean),
                f"{curve.configuration.label}: OrthoMerge-both minus -col, mean of safety and word "
                f"problems: {points(mean)}",
            )
        )
        both, col = (results.curves[f"{name}-reg-{mode}"] for mode in ("both", "col"))
        found.append(frontier_finding(both, col, better))
    return found


def averaged(differences: Sequence[Estimate]) -> Estimate:
    """Mean of differences on different prompts."""
    mean = fmean(d.value for d in differences)
    half = sum(((d.high - d.low) / 2) ** 2 for d in differences) ** 0.5 / len(differences)
    return Estimate(mean, mean - half, mean + half, differences[0].n, differences[0].seeds)


def refusals_spread(results: Results) -> list[Finding]:
    found = []
    for name in ("full", "mlp-r1"):
        curve = results.curves[name]
        spread = curve.best.minus(results.base, "over_refusal")
        found.append(
            Finding(
                better(spread),
                f"{curve.configuration.label}, best epoch: harmless requests refused, minus base: "
                f"{points(spread)}",
            )
        )
    return found


def retention_helps(results: Results) -> list[Finding]:
    without, half = results.curves["up-r1"].last, results.curves["up-r1-retain-0.5"].last
    refused, safety = half.minus(without, "over_refusal"), half.minus(without, "safe")
    return [
        Finding(
            better(negated(refused)),
            f"harmless requests refused, half retained minus none, last epoch: {points(refused)}",
        ),
        Finding(not_worse(safety), f"safety_score, the same: {points(safety)}"),
    ]


RANKS_ABOVE_1 = ("mlp-r4", "mlp-r8", "mlp-r16", "mlp-r64", "full")
OVERLAP = ("full", "qkvo-mlp-r4")
REGULARISED = ("up-r1-reg-col", "up-r1-reg-both", "qkvo-mlp-r4-reg-col", "qkvo-mlp-r4-reg-both")

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "fig1",
        "Full fine-tuning makes changes of high rank: a stable rank above what LoRA r=4 can have.",
        ("full",),
        stable_rank_is_high,
    ),
    Claim(
        "fig2",
        "The Safety Tax: full fine-tuning makes the model safe and costs it reasoning.",
        ("full",),
        full_gains_safety_and_loses_reasoning,
    ),
    Claim(
        "fig2",
        "LoRA (r=1, MLP) becomes as safe as full fine-tuning.",
        ("full", "mlp-r1"),
        lora_is_as_safe,
    ),
    Claim(
        "fig2",
        "LoRA (r=1, MLP) reasons as well as the base.",
        ("mlp-r1",),
        lora_keeps_reasoning,
    ),
    Claim(
        "fig2",
        "LoRA reasons better than full fine-tuning.",
        ("full", "mlp-r1"),
        lora_reasons_better_than_full,
    ),
    Claim(
        "fig3",
        "Rank 1 is enough: no higher rank and no full fine-tuning has the better frontier.",
        ("mlp-r1", *RANKS_ABOVE_1),
        frontiers("mlp-r1", RANKS_ABOVE_1, not_worse),
    ),
    Claim(
        "fig3",
        "Reasoning falls as the rank grows.",
        ("mlp-r1", "mlp-r64", "full"),
        reasoning_falls_with_rank,
    ),
    Claim(
        "fig3",
        "Safety dips at high ranks: r=64 is less safe than r=1 and than full fine-tuning.",
        ("mlp-r1", "mlp-r64", "full"),
        safety_dips,
    ),
    Claim(
        "fig4",
        "MLP alone has a frontier on par with attention and MLP.",
        ("mlp-r1", "qkvo-mlp-r1"),
        frontiers("mlp-r1", ("qkvo-mlp-r1",), not_worse),
    ),
    Claim(
        "fig5",
        "up_proj alone is on par with the whole MLP.",
        ("up-r1", "mlp-r1"),
        frontiers("up-r1", ("mlp-r1",), not_worse),
    ),
    Claim(
        "fig5",
        "up_proj alone beats the whole MLP (in the paper: on the coding tasks).",
        ("up-r1", "mlp-r1"),
        frontiers("up-r1", ("mlp-r1",), better),
    ),
    Claim(
        "fig5",
        "gate_proj alone is worse than up_proj alone.",
        ("up-r1", "gate-r1"),
        frontiers("up-r1", ("gate-r1",), better),
    ),
    Claim(
        "fig5",
        "down_proj alone is clearly worse than up_proj alone.",
        ("up-r1", "down-r1"),
        frontiers("up-r1", ("down-r1",), better),
    ),
    Claim(
        "fig6",
        "Middle layers have a better frontier than early and than late ones.",
        ("up-r1-early", "up-r1-middle", "up-r1-late"),
        frontiers("up-r1-middle", ("up-r1-early", "up-r1-late"), better),
    ),
    Claim(
        "fig6",
        "Middle layers alone are on par with all layers.",
        ("up-r1-middle", "up-r1"),
        frontiers("up-r1-middle", ("up-r1",), not_worse),
    ),
    Claim(
        "fig7",
        "LoRA (r=4, attention and MLP) overlaps less with the weights than full fine-tuning, in "
        "most module types and in all four metrics.",
        OVERLAP,
        overlap_is_smaller,
    ),
    Claim(
        "fig8",
        "OrthoMerge-both improves on plain LoRA at its best point.",
        MERGED,
        orthomerge_gains,
    ),
    Claim(
        "fig8",
        "OrthoMerge-both by itself costs safety, and scaling by λ restores it.",
        MERGED,
        projection_costs_safety,
    ),
    Claim(
        "fig8",
        "Keeping out of both spaces is better than out of the column space alone.",
        (*MERGED, *REGULARISED),
        both_beats_column,
    ),
    Claim(
        "retention",
        "Ours: training on refusals alone also teaches to refuse harmless requests.",
        ("full", "mlp-r1"),
        refusals_spread,
    ),
    Claim(
        "retention",
        "Ours: mixing in half as many of the base's own answers reduces that and keeps the safety.",
        ("up-r1", "up-r1-retain-0.5"),
        retention_helps,
    ),
)
