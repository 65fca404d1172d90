"""Claims on stable rank, overlap, OrthoMerge and regularisation, decided in all three ways."""

import pytest
from made_up import curve, results, shapes, stage

from trainer.reproduce.findings.claims import CLAIMS, decided
from trainer.reproduce.findings.projection import MERGED
from trainer.reproduce.findings.results import Merge
from trainer.reproduce.numbers.estimate import over_seeds

MANY, FEW = 2000, 20
FAMILIES = [name + reg for name in MERGED for reg in ("", "-reg-col", "-reg-both")]
OVERLAP = (over_seeds([0.1]),) * 4


def verdict_of(beginning, found):
    (claim,) = [claim for claim in CLAIMS if claim.statement.startswith(beginning)]
    (decision,) = decided(found, [claim])
    return decision.verdict


def with_structure(full, lora):
    """Per seed: stable rank, overlap."""
    curves = {
        name: curve(name, {1: stage(FEW)}, structure=[shapes(*seed) for seed in seeds])
        for name, seeds in (("full", full), ("qkvo-mlp-r4", lora))
    }
    return results(FEW, curves, {})


@pytest.mark.parametrize(
    ("ranks", "verdict"),
    [
        ((20, 21, 22), "held"),
        ((2.0, 2.1, 2.2), "not held"),
        ((2, 5, 8), "undecided"),
        ((20,), "undecided"),  # one seed has no interval
    ],
)
def test_the_stable_rank_of_full_fine_tuning_is_above_4_or_not(ranks, verdict):
    found = with_structure([(rank, 0.2) for rank in ranks], [(2, 0.2)])
    assert verdict_of("Full fine-tuning makes", found) == verdict


@pytest.mark.parametrize(
    ("lora", "verdict"),
    [
        ((0.10, 0.11, 0.12), "held"),
        ((0.50, 0.51, 0.52), "not held"),
        ((0.10, 0.20, 0.30), "undecided"),
        ((0.10,), "undecided"),
    ],
)
def test_lora_overlaps_less_in_most_module_types_or_not(lora, verdict):
    full = [(9, 0.2)] * len(lora)
    found = with_structure(full, [(2, overlap) for overlap in lora])
    assert verdict_of("LoRA (r=4", found) == verdict


def variants(n, col, plain, scaled):
    """OrthoMerge-col, and -both without and with a larger strength, by their shares."""
    return [
        Merge(mode, 2, strength, OVERLAP, stage(n, **shares))
        for mode, strength, shares in (
            ("col", 1.0, col),
            ("both", 1.0, plain),
            ("both", 1.25, scaled),
        )
    ]


def merged_world(n, col=None, plain=None, scaled=None, reg_both=None):
    merges = variants(n, col or {}, plain or {}, scaled or {})
    curves = {}
    for name in FAMILIES:
        shares = reg_both or {} if name.endswith("-both") else {}
        curves[name] = curve(name, {1: stage(n, **shares)}, merges=merges if name in MERGED else ())
    return results(n, curves, {})


@pytest.mark.parametrize(
    ("n", "scaled", "verdict"),
    [
        (MANY, {"safe": 0.9}, "held"),
        (MANY, {"word_problem": 0.9}, "held"),
        (MANY, {}, "not held"),
        (MANY, {"safe": 0.9, "word_problem": 0.3}, "undecided"),  # a trade dominates neither way
        (FEW, {}, "undecided"),
    ],
)
def test_orthomerge_gains_where_its_best_variant_dominates(n, scaled, verdict):
    found = merged_world(n, scaled=scaled)
    assert verdict_of("OrthoMerge-both improves", found) == verdict


@pytest.mark.parametrize(
    ("n", "plain", "scaled", "verdict"),
    [
        (MANY, {"safe": 0.2}, {"safe": 0.4}, "held"),
        (MANY, {"safe": 0.2}, {"safe": 0.2}, "not held"),  # nothing is won back
        (MANY, {"safe": 0.5}, {"safe": 0.9}, "not held"),  # nothing was lost
        (FEW, {"safe": 0.45}, {"safe": 0.5}, "undecided"),
    ],
)
def test_the_projection_costs_safety_and_scaling_restores_it(n, plain, scaled, verdict):
    found = merged_world(n, plain=plain, scaled=scaled)
    assert verdict_of("OrthoMerge-both by itself", found) == verdict


@pytest.mark.parametrize(
    ("n", "scaled", "reg_both", "verdict"),
    [
        (MANY, {"safe": 0.9}, {"safe": 0.9}, "held"),
        (MANY, {"safe": 0.9}, {}, "not held"),
        (MANY, {}, {"safe": 0.9}, "not held"),
        (FEW, {}, {}, "undecided"),
    ],
)
def test_both_spaces_beat_the_column_space_merged_and_regularised(n, scaled, reg_both, verdict):
    found = merged_world(n, scaled=scaled, reg_both=reg_both)
    assert verdict_of("Keeping out", found) == verdict


def test_claims_on_orthomerge_are_not_measured_where_no_variant_was():
    # As with --quick, which makes none.
    curves = {name: curve(name, {1: stage(FEW)}) for name in FAMILIES}
    found = results(FEW, curves, {})
    claims = [claim for claim in CLAIMS if claim.figure == "fig8"]
    assert {d.verdict for d in decided(found, claims)} == {"not measured"}
