"""The two rules on single differences, at and around their bounds."""

import pytest

from trainer.reproduce.findings.verdict import better, not_worse
from trainer.reproduce.numbers.estimate import Estimate, in_percent, in_points, number
from trainer.shared import interval


def difference(low, high):
    return Estimate((low + high) / 2, low, high, 100, 3)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "held"),
        (0.001, 0.002, "held"),  # small, and beyond doubt
        (0.0, 0.2, "undecided"),
        (-0.2, -0.01, "not held"),
        (-0.04, 0.04, "not held"),  # at most a difference that does not count
        (-0.04, 0.05, "undecided"),
        (-0.05, 0.04, "undecided"),
        (-0.2, 0.2, "undecided"),
    ],
)
def test_better_needs_its_whole_interval_above_zero(low, high, verdict):
    assert better(difference(low, high)) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.04, 0.2, "held"),
        (-0.04, -0.01, "held"),  # worse, by less than counts
        (-0.05, 0.2, "undecided"),
        (-0.2, -0.05, "undecided"),
        (-0.2, -0.06, "not held"),
    ],
)
def test_not_worse_allows_less_than_the_margin(low, high, verdict):
    assert not_worse(difference(low, high)) == verdict


def test_numbers_are_written_with_their_intervals():
    found = Estimate(-0.125, -0.25, 0.0, 8, 3)
    assert in_points(found) == "-12.5 points [-25.0, +0.0]"
    assert in_percent(Estimate(0.5, 0.25, 1.0, 8, 3)) == "50.0% [25.0, 100.0]"
    assert number(Estimate(4.126, 3.0, 5.25, 0, 3)) == "4.13 [3.00, 5.25]"


def test_a_share_and_a_difference_are_written_alike_wherever_they_stand():
    found = Estimate(-0.125, -0.25, 0.0, 8, 3)
    assert interval.points(found) == "-12.5 [-25.0, +0.0]"
    assert interval.percent(interval.wilson(4, 4)) == "100.0% [51.0%, 100.0%]"
