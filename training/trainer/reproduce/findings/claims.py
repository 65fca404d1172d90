"""The claims of the paper and the rule that decides each from the numbers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from trainer.reproduce.findings.comparison import (
    frontiers,
    full_gains_safety_and_loses_reasoning,
    lora_is_as_safe,
    lora_keeps_reasoning,
    lora_reasons_better_than_full,
    reasoning_falls_with_rank,
    refusals_spread,
    retention_helps,
    safety_dips,
)
from trainer.reproduce.findings.projection import (
    MERGED,
    both_beats_column,
    orthomerge_gains,
    projection_costs_safety,
)
from trainer.reproduce.findings.results import Results
from trainer.reproduce.findings.structure import overlap_is_smaller, stable_rank_is_high
from trainer.reproduce.findings.verdict import Finding, Verdict, better, not_worse, together


@dataclass(frozen=True)
class Claim:
    figure: str
    statement: str
    needs: tuple[str, ...]  # configurations
    decide: Callable[[Results], Sequence[Finding]]
    in_short: str = ""
    needs_merges: bool = False  # OrthoMerge variants of its configurations that can have them


@dataclass(frozen=True)
class Decision:
    claim: Claim
    verdict: Verdict | Literal["not measured"]
    findings: tuple[Finding, ...]


def decided(results: Results, claims: Sequence[Claim]) -> list[Decision]:
    decisions = []
    for claim in claims:
        if not is_measured(claim, results):
            decisions.append(Decision(claim, "not measured", ()))
            continue
        findings = tuple(claim.decide(results))
        decisions.append(Decision(claim, together([f.verdict for f in findings]), findings))
    return decisions


def is_measured(claim: Claim, results: Results) -> bool:
    curves = [results.curves[name] for name in claim.needs if name in results.curves]
    # A seed whose training failed leaves nothing to pair the others' runs with.
    if len(curves) < len(claim.needs) or any(curve.failures for curve in curves):
        return False
    # A quick run makes no variants.
    can_have = [curve for curve in curves if curve.configuration.has_merges]
    return not claim.needs_merges or all(curve.merges for curve in can_have)


RANKS_ABOVE_1 = ("mlp-r4", "mlp-r8", "mlp-r16", "mlp-r64", "full")
OVERLAP = ("full", "qkvo-mlp-r4")
REGULARISED = ("up-r1-reg-col", "up-r1-reg-both", "qkvo-mlp-r4-reg-col", "qkvo-mlp-r4-reg-both")

SAFETY_TAX = Claim(
    "fig2",
    "The Safety Tax: full fine-tuning makes the model safe and costs it reasoning.",
    ("full",),
    full_gains_safety_and_loses_reasoning,
    in_short="the Safety Tax",
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "fig1",
        "Full fine-tuning makes changes of high rank: a stable rank above what LoRA r=4 can have.",
        ("full",),
        stable_rank_is_high,
        in_short="full fine-tuning's changes are of high rank",
    ),
    SAFETY_TAX,
    Claim(
        "fig2",
        "LoRA (r=1, MLP) becomes as safe as full fine-tuning.",
        ("full", "mlp-r1"),
        lora_is_as_safe,
        in_short="LoRA is as safe as full fine-tuning",
    ),
    Claim(
        "fig2",
        "LoRA (r=1, MLP) reasons as well as the base.",
        ("mlp-r1",),
        lora_keeps_reasoning,
        in_short="LoRA reasons as well as the base",
    ),
    Claim(
        "fig2",
        "LoRA reasons better than full fine-tuning.",
        ("full", "mlp-r1"),
        lora_reasons_better_than_full,
        in_short="LoRA reasons better than full fine-tuning",
    ),
    Claim(
        "fig2",
        "Ours: training on refusals alone also teaches to refuse harmless requests.",
        ("full", "mlp-r1"),
        refusals_spread,
        in_short="refusals spread to harmless requests (ours)",
    ),
    Claim(
        "fig3",
        "Rank 1 is enough: no higher rank and no full fine-tuning has the better frontier.",
        ("mlp-r1", *RANKS_ABOVE_1),
        frontiers("mlp-r1", RANKS_ABOVE_1, not_worse),
        in_short="rank 1 is enough",
    ),
    Claim(
        "fig3",
        "Reasoning falls as the rank grows.",
        ("mlp-r1", "mlp-r64", "full"),
        reasoning_falls_with_rank,
        in_short="reasoning falls with the rank",
    ),
    Claim(
        "fig3",
        "Safety dips at high ranks: r=64 is less safe than r=1 and than full fine-tuning.",
        ("mlp-r1", "mlp-r64", "full"),
        safety_dips,
        in_short="safety dips at high ranks",
    ),
    Claim(
        "fig4",
        "MLP alone has a frontier on par with attention and MLP.",
        ("mlp-r1", "qkvo-mlp-r1"),
        frontiers("mlp-r1", ("qkvo-mlp-r1",), not_worse),
        in_short="MLP is on par with attention and MLP",
    ),
    Claim(
        "fig5",
        "up_proj alone is on par with the whole MLP.",
        ("up-r1", "mlp-r1"),
        frontiers("up-r1", ("mlp-r1",), not_worse),
        in_short="`up_proj` is on par with the MLP",
    ),
    Claim(
        "fig5",
        "up_proj alone beats the whole MLP (in the paper: on the coding tasks).",
        ("up-r1", "mlp-r1"),
        frontiers("up-r1", ("mlp-r1",), better),
        in_short="`up_proj` beats the MLP",
    ),
    Claim(
        "fig5",
        "gate_proj alone is worse than up_proj alone.",
        ("up-r1", "gate-r1"),
        frontiers("up-r1", ("gate-r1",), better),
        in_short="`gate_proj` is worse than `up_proj`",
    ),
    Claim(
        "fig5",
        "down_proj alone is clearly worse than up_proj alone.",
        ("up-r1", "down-r1"),
        frontiers("up-r1", ("down-r1",), better),
        in_short="`down_proj` is worse than `up_proj`",
    ),
    Claim(
        "fig6",
        "Middle layers have a better frontier than early and than late ones.",
        ("up-r1-early", "up-r1-middle", "up-r1-late"),
        frontiers("up-r1-middle", ("up-r1-early", "up-r1-late"), better),
        in_short="middle layers beat early and late ones",
    ),
    Claim(
        "fig6",
        "Middle layers alone are on par with all layers.",
        ("up-r1-middle", "up-r1"),
        frontiers("up-r1-middle", ("up-r1",), not_worse),
        in_short="middle layers are on par with all",
    ),
    Claim(
        "fig7",
        "LoRA (r=4, attention and MLP) overlaps less with the weights than full fine-tuning, in "
        "most module types and in all four metrics.",
        OVERLAP,
        overlap_is_smaller,
        in_short="LoRA overlaps less with the weights",
    ),
    Claim(
        "fig8",
        "OrthoMerge-both improves on plain LoRA at its best point.",
        MERGED,
        orthomerge_gains,
        in_short="OrthoMerge-both improves on plain LoRA",
        needs_merges=True,
    ),
    Claim(
        "fig8",
        "OrthoMerge-both by itself costs safety, and scaling by λ restores it.",
        MERGED,
        projection_costs_safety,
        in_short="OrthoMerge-both costs safety that λ restores",
        needs_merges=True,
    ),
    Claim(
        "fig8",
        "Keeping out of both spaces is better than out of the column space alone.",
        (*MERGED, *REGULARISED),
        both_beats_column,
        in_short="both spaces are better than the column space",
        needs_merges=True,
    ),
    Claim(
        "retention",
        "Ours: mixing in half as many of the base's own answers reduces that and keeps the safety.",
        ("up-r1", "up-r1-retain-0.5"),
        retention_helps,
        in_short="retained answers reduce over-refusal and keep the safety (ours)",
    ),
)
