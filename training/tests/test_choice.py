"""The rule that chooses a learning rate, on made-up validation losses."""

import math

import pytest

from trainer.reproduce.numbers.choice import chosen_rate, extension

LADDER = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
PLANNED = LADDER[1:4]


def test_the_lowest_rate_within_the_tolerance_of_the_best_is_chosen():
    losses = {3e-4: 0.2, 1e-3: 0.012, 3e-3: 0.004, 1e-2: 0.003}
    assert chosen_rate(losses, 0.01) == 1e-3
    assert chosen_rate(losses, 0.005) == 3e-3


def test_a_loss_exactly_at_the_tolerance_is_still_good_enough():
    assert chosen_rate({1e-3: 0.75, 3e-3: 0.5}, 0.25) == 1e-3


def test_a_tolerance_of_0_takes_the_lowest_loss_itself_and_the_lower_rate_on_a_tie():
    assert chosen_rate({3e-4: 0.2, 1e-3: 0.0031, 3e-3: 0.003}, 0) == 3e-3
    assert chosen_rate({1e-3: 0.003, 3e-3: 0.003}, 0) == 1e-3


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_run_that_failed_is_never_chosen_and_hides_no_other(bad, place):
    rates = list(PLANNED)
    losses = {rate: 0.5 - 0.1 * i for i, rate in enumerate(rates)}
    losses[rates[place]] = bad
    good = [rate for i, rate in enumerate(rates) if i != place]
    assert chosen_rate(losses, 0) == good[1]
    assert chosen_rate(losses, 1) == good[0]


def test_the_lowest_rate_stands_where_every_run_failed():
    assert chosen_rate(dict.fromkeys(PLANNED), 0.01) == PLANNED[0]
    assert chosen_rate(dict.fromkeys(PLANNED, math.nan), 0) == PLANNED[0]


@pytest.mark.parametrize(
    ("losses", "tolerance", "expected"),
    [
        ((0.1, 0.2, 0.3), 0, 1e-4),
        ((0.3, 0.2, 0.1), 0, 1e-2),
        ((0.3, 0.1, 0.2), 0, None),
        # The same losses: with the tolerance the choice is on the other edge.
        ((0.102, 0.101, 0.1), 0, 1e-2),
        ((0.102, 0.101, 0.1), 0.01, 1e-4),
        ((None, None, None), 0, 1e-4),
    ],
)
def test_a_choice_on_the_edge_asks_for_one_rate_beyond_it(losses, tolerance, expected):
    swept = dict(zip(PLANNED, losses, strict=True))
    assert extension(swept, PLANNED, LADDER, tolerance) == expected


def test_the_sweep_is_extended_once_and_not_before_it_is_complete():
    complete = dict(zip(PLANNED, (0.1, 0.2, 0.3), strict=True))
    assert extension(complete, PLANNED, LADDER, 0) == 1e-4
    for beyond in (0.05, 0.5):  # better than the edge, and worse
        assert extension(complete | {1e-4: beyond}, PLANNED, LADDER, 0) is None
    assert extension({rate: complete[rate] for rate in PLANNED[:2]}, PLANNED, LADDER, 0) is None


def test_the_ladder_ends_the_extension():
    falling = dict(zip(LADDER[2:], (0.3, 0.2, 0.1), strict=True))
    assert extension(falling, LADDER[2:], LADDER, 0) is None
    rising = dict(zip(LADDER[:3], (0.1, 0.2, 0.3), strict=True))
    assert extension(rising, LADDER[:3], LADDER, 0) is None
