"""Scores of verdicts: areas by counting pairs, thresholds by counting alarms."""

import numpy as np
import pytest

from trainer.guard.scores import auroc, calibration, expected_calibration_error, score, threshold_at


def pairs(x, y):
    """The definition: how often an unsafe one is above a safe one."""
    wins = [float(a > b) + 0.5 * (a == b) for a in x[y] for b in x[~y]]
    return sum(wins) / len(wins)


def drawn(n=200, seed=1, gap=1.0):
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.4
    return np.round(rng.normal(size=n) + gap * y, 1), y


def test_the_area_counts_pairs_and_ties_count_half():
    x, y = drawn()
    assert auroc(x, y) == pytest.approx(pairs(x, y), abs=1e-12)
    assert auroc(np.zeros(4), np.array([True, False, True, False])) == 0.5
    assert auroc(x, np.zeros(len(x), dtype=bool)) is None


def test_at_most_one_in_a_hundred_safe_ones_reaches_the_threshold():
    x, y = drawn(3000)
    at = threshold_at(x, y)
    assert (x[~y] >= at).mean() <= 0.01
    lower = np.max(x[~y][x[~y] < at])  # the next lower value would let too many through
    assert (x[~y] >= lower).mean() > 0.01


def test_a_temperature_makes_bold_logits_honest():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=4000) * 2
    unsafe = rng.random(4000) < 1 / (1 + np.exp(-logits))
    found = calibration(logits * 3, unsafe)
    assert found.temperature == pytest.approx(3, rel=0.1)
    shares = 1 / (1 + np.exp(-logits * 3 / found.temperature))
    bold = 1 / (1 + np.exp(-logits * 3))
    assert expected_calibration_error(shares, unsafe) < 0.03
    assert expected_calibration_error(bold, unsafe) > 0.1


def test_a_validation_that_is_too_easy_makes_no_guard_bolder():
    logits = np.array([-9.0] * 50 + [9.0] * 50)
    found = calibration(logits, logits > 0)
    assert (found.temperature, found.threshold) == (1.0, 0.5)


def test_scores_are_at_the_threshold_given():
    found = score([2.0, 2.0, -1.0, 3.0], [True, True, True, False], threshold=0.7)
    assert (found.n, found.unsafe) == (4, 3)
    assert found.f1 == pytest.approx(2 * 2 / (2 + 1 + 3))
    assert found.false_positive_rate == 1.0
    assert found.low <= found.auroc <= found.high
