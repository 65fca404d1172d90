"""Each claim of shares and frontiers, decided from made-up results in all three ways."""

import pytest
from made_up import curve, results, stage

from trainer.reproduce.findings.claims import CLAIMS, Claim, decided
from trainer.reproduce.findings.verdict import Finding, together
from trainer.reproduce.jobs.grid import CONFIGURATIONS, FIGURES

MANY, FEW = 2000, 20  # prompts: differences of 10 points are clear, and are not

# Claim, verdict, prompts, shares of some configurations; all others have a half of everything.
# With few prompts nothing can be said of equal shares.
TABLE = [
    ("The Safety Tax", "held", MANY, {"full": {"safe": 0.9, "word_problem": 0.2}}),
    ("The Safety Tax", "not held", MANY, {"full": {"safe": 0.9}}),
    ("The Safety Tax", "undecided", FEW, {"full": {"safe": 0.9, "word_problem": 0.45}}),
    ("LoRA (r=1, MLP) becomes as safe", "held", MANY, {}),
    ("LoRA (r=1, MLP) becomes as safe", "not held", MANY, {"full": {"safe": 0.7}}),
    ("LoRA (r=1, MLP) becomes as safe", "undecided", FEW, {}),
    ("LoRA (r=1, MLP) reasons as well", "held", MANY, {}),
    ("LoRA (r=1, MLP) reasons as well", "not held", MANY, {"mlp-r1": {"fact": 0.3}}),
    ("LoRA (r=1, MLP) reasons as well", "undecided", FEW, {}),
    ("LoRA reasons better", "held", MANY, {"full": {"word_problem": 0.3}}),
    ("LoRA reasons better", "not held", MANY, {"full": {"word_problem": 0.7}}),
    ("LoRA reasons better", "undecided", FEW, {}),
    ("Rank 1 is enough", "held", MANY, {}),
    ("Rank 1 is enough", "not held", MANY, {"mlp-r8": {"safe": 0.9}}),
    ("Rank 1 is enough", "undecided", FEW, {}),
    (
        "Reasoning falls",
        "held",
        MANY,
        {"mlp-r64": {"word_problem": 0.3}, "full": {"word_problem": 0.1}},
    ),
    ("Reasoning falls", "not held", MANY, {"full": {"word_problem": 0.1}}),
    ("Reasoning falls", "undecided", FEW, {}),
    ("Safety dips", "held", MANY, {"mlp-r64": {"safe": 0.3}}),
    ("Safety dips", "not held", MANY, {"mlp-r64": {"safe": 0.3}, "full": {"safe": 0.2}}),
    ("Safety dips", "undecided", FEW, {}),
    ("MLP alone has", "held", MANY, {}),
    ("MLP alone has", "not held", MANY, {"qkvo-mlp-r1": {"word_problem": 0.9}}),
    ("MLP alone has", "undecided", FEW, {}),
    ("up_proj alone is on par", "held", MANY, {"up-r1": {"safe": 0.7}}),
    ("up_proj alone is on par", "not held", MANY, {"mlp-r1": {"safe": 0.9}}),
    ("up_proj alone is on par", "undecided", FEW, {}),
    ("up_proj alone beats", "held", MANY, {"up-r1": {"safe": 0.9}}),
    ("up_proj alone beats", "not held", MANY, {}),
    ("up_proj alone beats", "undecided", FEW, {}),
    ("gate_proj alone is worse", "held", MANY, {"gate-r1": {"safe": 0.2}}),
    ("gate_proj alone is worse", "not held", MANY, {"gate-r1": {"safe": 0.9}}),
    ("gate_proj alone is worse", "undecided", FEW, {}),
    ("down_proj alone is clearly", "held", MANY, {"down-r1": {"word_problem": 0.1}}),
    ("down_proj alone is clearly", "not held", MANY, {}),
    ("down_proj alone is clearly", "undecided", FEW, {}),
    ("Middle layers have", "held", MANY, {"up-r1-middle": {"safe": 0.9}}),
    (
        "Middle layers have",
        "not held",
        MANY,
        {"up-r1-middle": {"safe": 0.7}, "up-r1-late": {"safe": 0.9}},
    ),
    ("Middle layers have", "undecided", FEW, {}),
    ("Middle layers alone", "held", MANY, {}),
    ("Middle layers alone", "not held", MANY, {"up-r1": {"safe": 0.9}}),
    ("Middle layers alone", "undecided", FEW, {}),
    ("Ours: training", "held", MANY, {"full": {"refused": 0.9}, "mlp-r1": {"refused": 0.7}}),
    ("Ours: training", "not held", MANY, {"full": {"refused": 0.9}}),
    (
        "Ours: training",
        "undecided",
        FEW,
        {"full": {"refused": 0.55}, "mlp-r1": {"refused": 0.55}},
    ),
    ("Ours: mixing", "held", MANY, {"up-r1-retain-0.5": {"refused": 0.1}}),
    ("Ours: mixing", "not held", MANY, {"up-r1-retain-0.5": {"refused": 0.1, "safe": 0.3}}),
    ("Ours: mixing", "undecided", FEW, {"up-r1-retain-0.5": {"refused": 0.1}}),
]
# Those of structure and of OrthoMerge are in test_structure_claims.py.
ELSEWHERE = ("Full fine-tuning makes", "LoRA (r=4", "OrthoMerge-both", "Keeping out")


def claim_of(beginning):
    (found,) = [claim for claim in CLAIMS if claim.statement.startswith(beginning)]
    return found


def world(n, changes, base=None, names=CONFIGURATIONS):
    curves = {name: curve(name, {1: stage(n, **changes.get(name, {}))}) for name in names}
    return results(n, curves, base or {})


@pytest.mark.parametrize(("beginning", "verdict", "n", "changes"), TABLE)
def test_a_claim_is_decided_by_its_intervals(beginning, verdict, n, changes):
    claim = claim_of(beginning)
    (decision,) = decided(world(n, changes), [claim])
    assert decision.verdict == verdict
    assert decision.verdict == together([finding.verdict for finding in decision.findings])
    assert all("[" in finding.numbers for finding in decision.findings)  # with its interval


def test_every_claim_has_a_row_for_each_verdict():
    for claim in CLAIMS:
        if claim.statement.startswith(ELSEWHERE):
            continue
        rows = [row[1] for row in TABLE if claim.statement.startswith(row[0])]
        assert sorted(rows) == ["held", "not held", "undecided"], claim.statement


def test_a_claim_needs_what_it_reads_and_belongs_to_a_figure_that_has_it():
    for claim in CLAIMS:
        assert set(claim.needs) <= set(FIGURES[claim.figure].configurations)
        if claim.statement.startswith(ELSEWHERE):
            continue
        (decision,) = decided(world(MANY, {}, names=claim.needs), [claim])
        assert decision.verdict != "not measured"
    for figure in FIGURES:
        assert any(claim.figure == figure for claim in CLAIMS)


def test_a_claim_without_all_its_configurations_is_not_measured():
    claim = claim_of("LoRA reasons better")
    (decision,) = decided(world(MANY, {}, names=("mlp-r1",)), [claim])
    assert (decision.verdict, decision.findings) == ("not measured", ())


def test_a_claim_on_a_configuration_of_which_a_seed_failed_is_not_measured():
    found = world(MANY, {})
    broken = curve("full", {1: stage(MANY, seeds=2)}, failures=("the loss is nan",))
    found.curves["full"] = broken
    (decision,) = decided(found, [claim_of("LoRA reasons better")])
    assert decision.verdict == "not measured"


def test_the_last_epoch_is_judged_beside_the_best():
    # Full fine-tuning grows safer after its best epoch and loses its reasoning; LoRA does not.
    found = world(MANY, {})
    collapsed = stage(MANY, safe=0.9, word_problem=0.05)
    found.curves["full"] = curve("full", {1: stage(MANY), 2: collapsed})
    claims = [claim_of("LoRA reasons better"), claim_of("LoRA (r=1, MLP) becomes as safe")]
    verdicts = [[f.verdict for f in decision.findings] for decision in decided(found, claims)]
    assert verdicts == [["not held", "held"], ["held", "not held"]]


def test_one_part_that_does_not_hold_is_enough_and_nothing_decides_nothing():
    assert together(["held", "held"]) == "held"
    assert together(["held", "undecided", "not held"]) == "not held"
    assert together(["held", "undecided"]) == "undecided"
    assert together([]) == "undecided"


def test_a_claim_without_a_finding_is_undecided():
    nothing = Claim("fig2", "Nothing.", (), lambda _: [])
    one = Claim("fig2", "One.", (), lambda _: [Finding("held", "seen")])
    verdicts = [decision.verdict for decision in decided(world(FEW, {}), [nothing, one])]
    assert verdicts == ["undecided", "held"]
