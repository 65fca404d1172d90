"""Frontiers and the area below them, on places in the unit square."""

import random

from trainer.reproduce.numbers.pareto import area, frontier


def test_a_place_that_another_beats_is_not_on_the_frontier():
    places = [(0.2, 0.9), (0.5, 0.5), (0.4, 0.4), (0.9, 0.1), (0.9, 0.05)]
    assert frontier(places) == [0, 1, 3]


def test_the_frontier_runs_from_low_to_high_in_the_first_share():
    assert frontier([(0.9, 0.1), (0.2, 0.9), (0.5, 0.5)]) == [1, 2, 0]


def test_of_equal_places_the_first_stays():
    assert frontier([(0.5, 0.5), (0.5, 0.5), (0.5, 0.4)]) == [0]


def test_a_place_without_any_success_is_a_frontier_of_its_own():
    assert frontier([(0.0, 0.0)]) == [0]
    assert frontier([]) == []


def test_the_frontier_is_what_its_definition_says_on_random_places():
    rng = random.Random(5)
    for _ in range(50):
        places = [(rng.randrange(6) / 5, rng.randrange(6) / 5) for _ in range(9)]
        kept = set(frontier(places))
        for i, place in enumerate(places):
            beaten = any(
                other[0] >= place[0] and other[1] >= place[1] and other != place for other in places
            )
            repeats = place in places[:i]
            assert (i in kept) == (not beaten and not repeats)


def test_the_area_is_what_the_places_dominate_together():
    assert area([]) == 0
    assert area([(0.5, 0.4)]) == 0.5 * 0.4
    assert abs(area([(0.2, 0.9), (0.5, 0.5), (0.4, 0.4)]) - (0.2 * 0.9 + 0.3 * 0.5)) < 1e-12
    assert area([(1.0, 1.0), (0.3, 0.3)]) == 1.0
