"""Means over seeds and their intervals, against the parts they are made of."""

import math
from statistics import stdev

import pytest
from made_up import bits

from trainer.reproduce.numbers.estimate import (
    Estimate,
    averaged,
    contrast,
    estimated,
    negated,
    over_seeds,
    paired_runs,
)
from trainer.shared.interval import paired_difference, wilson


def test_the_value_is_the_mean_over_the_seeds():
    found = estimated([bits(share, 100) for share in (0.5, 0.6, 0.7)])
    assert found.value == pytest.approx(0.6)
    assert (found.n, found.seeds) == (100, 3)


def test_one_seed_has_the_prompts_interval_alone():
    found, prompts = estimated([bits(0.3, 50)]), wilson(15, 50)
    assert (found.low, found.high) == pytest.approx((prompts.low, prompts.high))
    assert found.seeds == 1


def test_seeds_that_agree_add_nothing_and_do_not_make_the_prompts_more():
    one, three = estimated([bits(0.3, 50)]), estimated([bits(0.3, 50)] * 3)
    assert (three.low, three.high) == pytest.approx((one.low, one.high))


def test_seeds_that_differ_widen_the_interval_as_independent_errors_do():
    shares = (0.5, 0.6, 0.7)
    found, prompts = estimated([bits(s, 100) for s in shares]), wilson(60, 100)
    seeds = 4.303 * stdev(shares) / math.sqrt(3)  # t of two degrees of freedom
    assert found.value - found.low == pytest.approx(math.hypot(0.6 - prompts.low, seeds))
    assert found.high - found.value == pytest.approx(math.hypot(prompts.high - 0.6, seeds))


def test_an_interval_never_leaves_the_possible_shares():
    found = estimated([bits(share, 20) for share in (0.0, 1.0, 1.0)])
    assert (found.low, found.high) == (0.0, 1.0)
    whole = contrast([bits(0.0, 20), bits(1.0, 20)], [bits(1.0, 20), bits(0.0, 20)])
    assert (whole.value, whole.low, whole.high) == (0.0, -1.0, 1.0)


def test_a_value_without_prompts_has_the_seeds_interval_or_none():
    three, one = over_seeds([1.0, 2.0, 3.0]), over_seeds([2.0])
    assert three.high - three.value == pytest.approx(4.303 / math.sqrt(3))
    assert (one.low, one.high, one.seeds) == (2.0, 2.0, 1)


def test_a_contrast_of_one_seed_is_the_paired_difference():
    before, after = bits(0.5, 40), bits(0.75, 40)
    found = contrast([before], [after])
    paired = paired_difference([b == "1" for b in before], [b == "1" for b in after])
    assert (found.value, found.low, found.high) == pytest.approx(
        (paired.value, paired.low, paired.high)
    )
    assert found.value == pytest.approx(0.25)


def test_a_single_run_such_as_the_bases_stands_against_every_seed():
    assert paired_runs(["0"], ["1", "0"]) == [("0", "1"), ("0", "0")]
    assert paired_runs(["0", "1"], ["1"]) == [("0", "1"), ("1", "1")]
    with pytest.raises(ValueError):
        paired_runs(["0", "1"], ["1", "0", "1"])


def test_negating_turns_the_interval_around():
    assert negated(Estimate(0.25, 0.125, 0.5, 9, 3)) == Estimate(-0.25, -0.5, -0.125, 9, 3)


def test_the_mean_of_two_differences_has_a_smaller_interval_than_either():
    one, other = Estimate(0.1, 0.0, 0.2, 9, 3), Estimate(0.3, 0.2, 0.4, 9, 3)
    found = averaged([one, other])
    assert found.value == pytest.approx(0.2)
    assert found.high - found.value == pytest.approx(0.1 * math.sqrt(2) / 2)
