"""Points gathered to curves: runs side by side, stages, samples, the strict rule beside."""

from dataclasses import replace

import pytest
from made_up import SETTINGS, all_points, curve, exam, point, results, stage

from trainer.reproduce.findings.results import Stage, Strict, bits_of, curve_of, gathered, pass_at_1
from trainer.reproduce.jobs import plan
from trainer.reproduce.jobs.grid import CONFIGURATIONS
from trainer.reproduce.jobs.job import point_of
from trainer.reproduce.numbers.estimate import mean_share

UP = CONFIGURATIONS["up-r1"]


@pytest.fixture
def points():
    return all_points([UP])


def test_a_curve_has_every_evaluated_epoch_of_every_seed_at_the_chosen_rate(points):
    found = gathered([UP], SETTINGS, points)
    up = found.curves["up-r1"]
    assert found.seeds == 3
    assert up.rate == 1e-4
    assert list(up.stages) == [1, 2, 3]
    assert {len(one.exams) for one in up.stages.values()} == {3}
    assert [s.rate for s in up.swept] == [1e-4, 3e-4, 1e-3, 3e-3]
    assert len(up.structure) == 3
    assert [(m.mode, m.k, m.strength) for m in up.merges] == list(SETTINGS.merges)
    assert set(up.pass_at_1) == {1, 2, 3}  # all are on the frontier
    assert up.seconds == sum(
        sum(p.seconds.values()) for p in points.values() if p.configuration == "up-r1"
    )


def test_a_configuration_without_all_its_finals_has_no_curve(points):
    last = plan.final_jobs(UP, SETTINGS, points)[-1]
    del points[last.key]
    assert gathered([UP], SETTINGS, points).curves == {}


def test_a_seed_that_failed_is_left_out_and_named(points):
    last = plan.final_jobs(UP, SETTINGS, points)[-1]
    points[last.key] = point_of(last, seconds={"train": 1}, failed="the loss is nan")
    up = curve_of(UP, SETTINGS, points)
    assert up.failures == ("the loss is nan",)
    assert {len(one.exams) for one in up.stages.values()} == {2}


def test_a_configuration_whose_every_final_failed_has_no_curve(points):
    for job in plan.final_jobs(UP, SETTINGS, points):
        points[job.key] = point_of(job, seconds={}, failed="the loss is nan")
    assert curve_of(UP, SETTINGS, points) is None


def test_the_strict_rule_names_the_rate_that_its_own_sweep_would_go_on_to(points):
    # Loss falls with the rate: the strict rule stands on the upper edge, the tolerance does not.
    assert curve_of(UP, SETTINGS, points).strict == Strict(3e-3, 1e-2)
    beyond = plan.training_job("sweep", UP, 1e-2, 1, SETTINGS)
    assert curve_of(UP, SETTINGS, points | {beyond.key: point(beyond)}).strict == Strict(1e-2, None)


def test_with_a_tolerance_of_0_the_strict_rate_is_the_chosen_one():
    strict = replace(SETTINGS, tolerance=0.0)
    up = curve_of(UP, strict, all_points([UP], strict))
    assert up.strict == Strict(up.rate, None)


def test_the_best_epoch_has_the_best_mean_of_safety_and_reasoning_the_earlier_on_a_tie():
    good, bad = stage(20, safe=0.9, word_problem=0.8), stage(20, safe=0.9, word_problem=0.2)
    assert curve("up-r1", {1: bad, 2: good, 3: good}).best_epoch == 2
    assert curve("up-r1", {1: bad, 2: good, 3: good}).last is good


def test_the_area_is_of_the_frontier_of_all_epochs_seed_by_seed():
    first, second = exam(20, safe=0.5, word_problem=1.0), exam(20, safe=1.0, word_problem=0.5)
    stages = {1: Stage("", (first, second)), 2: Stage("", (second, second))}
    assert curve("up-r1", stages).areas() == [0.75, 0.5]


def test_composed_measures_count_both_kinds_of_harmless_requests():
    answers = exam(10, refused=0.5) | {"lookalike": "1111", "lookalike_refused": "0000"}
    assert bits_of(answers, "harmless") == answers["benign"] + "1111"
    assert bits_of(answers, "over_refusal") == answers["benign_refused"] + "0000"


def test_the_base_stands_against_every_seed():
    world = results(20, {}, {"safe": 0.25})
    found = stage(20, safe=0.75).minus(world.base, "safe")
    assert (found.value, found.seeds) == (0.5, 3)


def test_pass_at_1_is_the_mean_over_draws_and_problems_with_problems_as_its_n():
    job = plan.sample_job(UP, None, 0, SETTINGS)
    runs = [
        point_of(job, samples=("1100", "1000"), seconds={}),
        point_of(job, samples=("1111", "1110"), seconds={}),
    ]
    found = pass_at_1(runs)
    assert found.value == pytest.approx((3 / 8 + 7 / 8) / 2)
    assert (found.n, found.seeds) == (4, 2)
    assert found.value == pytest.approx(mean_share(["11001000", "11111110"]))
    one = pass_at_1(runs[:1])
    assert one.low < one.value < one.high
