"""Claims about updates kept out of the weights' main directions: OrthoMerge, regularisation."""

from __future__ import annotations

from trainer.reproduce.findings.comparison import frontier_finding
from trainer.reproduce.findings.results import Curve, Results
from trainer.reproduce.findings.verdict import Finding, Verdict, better, not_worse
from trainer.reproduce.numbers.estimate import averaged, in_points

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
        safety, reasoning = map(in_points, differences)
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
                f"{label}, k={k}: safety_score lost by the projection: {in_points(loss)}",
            ),
            Finding(
                better(gain),
                f"{label}, k={k}: safety_score won back by λ={scaled.strength:g}: "
                f"{in_points(gain)}",
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
                f"problems: {in_points(mean)}",
            )
        )
        both, col = (results.curves[f"{name}-reg-{mode}"] for mode in ("both", "col"))
        found.append(frontier_finding(both, col, better))
    return found
