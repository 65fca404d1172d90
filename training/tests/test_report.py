"""The report of made-up results: complete, its links good, the same bytes a second time."""

import json
import re
from dataclasses import replace

import pytest
from made_up import SETTINGS, all_points, point

from trainer.publish.provenance import recorded_commit
from trainer.reproduce.figures.drawings import DRAWN
from trainer.reproduce.figures.plane_figure import frame_of
from trainer.reproduce.findings.claims import CLAIMS, SAFETY_TAX
from trainer.reproduce.findings.results import gathered
from trainer.reproduce.jobs import plan
from trainer.reproduce.jobs.grid import (
    CONFIGURATIONS,
    FIGURES,
    chosen_configurations,
    chosen_figures,
)
from trainer.reproduce.jobs.job import point_of
from trainer.reproduce.report.answers import TAX_ANSWERS
from trainer.reproduce.report.page import write_report

FACTS = {"model": "models/made-up", "versions": {"torch": "2"}}
SESSION = {
    "command": "npm run reproduce",
    "date": "2026-01-01 00:00 UTC",
    "machine": "none",
    "workers": 2,
    "jobs": 9,
    "seconds": 61.0,
}
# Each kind of drawing once.
DRAWN_HERE = chosen_figures(("fig1", "fig7", "fig8", "retention"))


def written(folder, figures, settings=SETTINGS, points=None):
    entries = chosen_configurations(figures)
    points = all_points(entries, settings) if points is None else points
    found = gathered(entries, settings, points)
    path = write_report(
        folder, found, figures, settings, sessions=[SESSION], facts=FACTS, is_quick=False
    )
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder, written(folder, DRAWN_HERE)


def test_every_link_of_the_report_is_a_file_and_every_png_is_linked_and_has_its_svg(report):
    folder, text = report
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert all((folder / link).is_file() for link in links)
    pictures = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    assert pictures == set(links)
    assert all((folder / link).with_suffix(".svg").is_file() for link in links)


def test_the_report_has_every_claim_of_its_figures_and_none_of_others(report):
    folder, text = report
    flat = " ".join(text.split())  # prose is wrapped
    raw = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert {claim["figure"] for claim in raw["claims"]} == {figure.name for figure in DRAWN_HERE}
    for claim in raw["claims"]:
        assert claim["verdict"] != "not measured"
        assert flat.count(claim["claim"]) == 2  # in the table, and with its numbers
        assert all(finding["numbers"] in flat for finding in claim["findings"])


def test_the_page_opens_with_the_answer_to_each_claim_the_seeds_and_the_figures(report):
    folder, text = report
    claims = json.loads((folder / "results.json").read_text(encoding="utf-8"))["claims"]
    opening = " ".join(text[: text.index("## Claims")].split())
    for verdict in ("held", "not held", "undecided"):
        count = sum(claim["verdict"] == verdict for claim in claims)
        words = f"**{verdict.capitalize()}, {count} of {len(claims)} claims**"
        assert (words in opening) == (count > 0)
    for claim in CLAIMS:
        is_here = any(claim.statement == found["claim"] for found in claims)
        assert claim.in_short and (claim.in_short in opening) == is_here
    assert "**3 seeds** (1, 2, 3)" in opening
    assert "[7](figures/fig7.png)" in opening


def test_whether_the_safety_tax_was_seen_is_said_with_its_numbers(tmp_path):
    text = written(tmp_path, chosen_figures(("fig2",)))
    raw = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    tax = next(claim for claim in raw["claims"] if claim["claim"] == SAFETY_TAX.statement)
    opening = " ".join(text[: text.index("## Claims")].split())
    assert f"**{TAX_ANSWERS[tax['verdict']]}** with full fine-tuning" in opening
    assert all(finding["numbers"] in opening for finding in tax["findings"])


def test_a_session_says_its_commit_and_whether_the_sources_had_changes():
    assert "its commit was not recorded" in recorded_commit(SESSION)
    clean = {**SESSION, "commit": "0123456789abcdef"}
    assert recorded_commit(clean, 12) == "commit `0123456789ab`"
    changed = {**SESSION, "commit": "0123456789abcdef+changes"}
    assert recorded_commit(changed, 12) == "commit `0123456789ab` with changes"


def test_the_report_says_that_the_tolerance_was_not_chosen_blind(report):
    _, text = report
    assert "not chosen blind" in text
    assert re.search(r"4 sweeps at first, and on 9 by the time of the\s+decision", text)
    assert "`--tolerance 0` is the strict rule" in text


def test_every_sweep_shows_the_rate_of_the_strict_rule_beside_the_chosen_one(report):
    _, text = report
    assert re.search(r"\| LoRA r=1, up +\| 0\.0001 .*\| 0\.003, then 0\.01 \(not tried\)", text)
    rows = re.findall(r"^\| LoRA r=1, up .*\| (chosen|strict) +\|$", text, flags=re.M)
    assert rows == ["chosen", "strict"]


def test_the_raw_results_hold_the_rates_the_seconds_and_the_session(report):
    folder, _ = report
    raw = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    up = raw["configurations"]["up-r1"]
    assert (up["rate"], up["strict_rule"]) == (1e-4, {"rate": 3e-3, "untried": 1e-2})
    assert up["seconds"] > 0
    assert raw["sessions"] == [SESSION]
    assert raw["settings"]["tolerance"] == SETTINGS.tolerance


def test_the_same_results_give_the_same_bytes(tmp_path):
    figures = chosen_figures(("fig2",))
    first, second = (written(tmp_path / name, figures) for name in ("one", "two"))
    assert first == second
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == twin.read_bytes(), path.name


def test_the_frame_of_a_frontier_holds_every_best_epoch_and_stays_in_the_plane():
    entries = [CONFIGURATIONS["up-r1"], CONFIGURATIONS["full"]]
    found = gathered(entries, SETTINGS, all_points(entries))
    stages = [curve.best for curve in found.curves.values()]
    places = [[(s.estimate("safe"), s.estimate("word_problem"))] for s in stages]
    across, up = frame_of(places, base=0.9)
    for ((x, y),) in places:
        assert across[0] < x.value < across[1]
        assert up[0] < y.value < up[1]
    assert up[0] < 0.9 < up[1]
    assert across[1] - across[0] >= 0.2
    assert across[1] <= 1.03


def test_a_base_alone_makes_a_report_that_says_what_is_missing(tmp_path):
    base = plan.base_job(SETTINGS)
    points = {base.key: point(base)}
    text = written(tmp_path, chosen_figures(("fig2",)), points=points)
    assert "No sweep has come to its end." in text
    assert "LoRA r=1, MLP: no results" in text
    assert "not measured" in text
    assert "![" not in text


def test_a_seed_whose_training_failed_is_named_in_its_figure(tmp_path):
    figures = chosen_figures(("fig1",))
    entry = CONFIGURATIONS["full"]
    points = all_points(chosen_configurations(figures))
    last = plan.final_jobs(entry, SETTINGS, points)[-1]
    points[last.key] = point_of(last, seconds={}, failed="the loss is nan in epoch 2")
    text = written(tmp_path, figures, points=points)
    assert "1 of 3 seeds failed and are left out (the loss is nan in epoch 2)" in text


def test_under_the_strict_rule_the_report_says_so(tmp_path):
    strict = replace(SETTINGS, tolerance=0.0)
    text = written(tmp_path, chosen_figures(("fig1",)), strict)
    assert "at the rate with the lowest loss itself" in text
    assert "not chosen blind" not in text


def test_every_figure_of_the_grid_has_drawings():
    assert set(DRAWN) == set(FIGURES)
