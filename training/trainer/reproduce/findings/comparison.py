"""Claims about safety and reasoning: a configuration beside another, or beside the base. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from trainer.reproduce.findings.results import Curve, Results
from trainer.reproduce.findings.verdict import Finding, Verdict, better, not_worse
from trainer.reproduce.numbers.estimate import Estimate, in_points, negated, over_seeds


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
        f"frontier area, {names}: {in_points(difference)}; "
        f"areas {100 * fmean(one.areas()):.1f} and {100 * fmean(other.areas()):.1f}",
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
        Finding(better(safety), f"safety_score, last epoch minus base: {in_points(safety)}"),
        Finding(
            better(negated(loss)),
            f"word problems, last epoch minus base: {in_points(loss)} "
            f"(facts {in_points(kept)}, which the verdict does not count)",
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
                f"safety_score at the {name} epochs, LoRA minus full: {in_points(difference)}",
            )
        )
    return found


def lora_keeps_reasoning(results: Results) -> list[Finding]:
    best = results.curves["mlp-r1"].best
    return [
        Finding(
            not_worse(best.minus(results.base, measure)),
            f"{name}, best epoch minus base: {in_points(best.minus(results.base, measure))}",
        )
        for measure, name in (("word_problem", "word problems"), ("fact", "facts"))
    ]


def lora_reasons_better_than_full(results: Results) -> list[Finding]:
    lora, full = results.curves["mlp-r1"], results.curves["full"]
    return [
        Finding(
            better(one.minus(other, "word_problem")),
            f"word problems at the {name} epochs, LoRA minus full: "
            f"{in_points(one.minus(other, 'word_problem'))}",
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
            Finding(
                better(fall), f"word problems, last epoch, r=1 minus {label}: {in_points(fall)}"
            )
        )
    return found


def safety_dips(results: Results) -> list[Finding]:
    ends = (results.curves["mlp-r1"].last, results.curves["full"].last)
    middle = results.curves["mlp-r64"].last
    return [
        Finding(
            better(end.minus(middle, "safe")),
            f"safety_score, last epoch, {name} minus r=64: {in_points(end.minus(middle, 'safe'))}",
        )
        for name, end in zip(("r=1", "full"), ends, strict=True)
    ]


def refusals_spread(results: Results) -> list[Finding]:
    found = []
    for name in ("full", "mlp-r1"):
        curve = results.curves[name]
        spread = curve.best.minus(results.base, "over_refusal")
        found.append(
            Finding(
                better(spread),
                f"{curve.configuration.label}, best epoch: harmless requests refused, minus base: "
                f"{in_points(spread)}",
            )
        )
    return found


def retention_helps(results: Results) -> list[Finding]:
    without, half = results.curves["up-r1"].last, results.curves["up-r1-retain-0.5"].last
    refused, safety = half.minus(without, "over_refusal"), half.minus(without, "safe")
    return [
        Finding(
            better(negated(refused)),
            "harmless requests refused, half retained minus none, last epoch: "
            f"{in_points(refused)}",
        ),
        Finding(not_worse(safety), f"safety_score, the same: {in_points(safety)}"),
    ]
