"""A step's examples: every example once, dealt alike, grouped where that costs least."""

import random
from itertools import chain

from trainer.fit import plan


def test_an_epoch_takes_every_example_once_in_an_order_of_its_seed():
    steps = plan.steps_of_epoch(23, 5, random.Random("a"))
    assert [len(step) for step in steps] == [5, 5, 5, 5, 3]
    assert sorted(chain(*steps)) == list(range(23))
    assert steps == plan.steps_of_epoch(23, 5, random.Random("a"))
    assert steps != plan.steps_of_epoch(23, 5, random.Random("b"))


def test_processes_share_a_step_by_length():
    lengths = [9, 1, 8, 2, 7, 3]
    shares = [plan.share_of(range(6), lengths, p, 2) for p in (0, 1)]
    assert [[lengths[i] for i in share] for share in shares] == [[1, 3, 8], [2, 7, 9]]


def test_groups_are_as_cheap_as_any_cut_of_the_sorted_rows():
    rng = random.Random(3)
    for _ in range(30):
        lengths = [rng.randint(1, 120) for _ in range(7)]
        rows = plan.share_of(range(7), lengths, 0, 1)

        def cost(groups, lengths=lengths):
            return sum(40 + max(lengths[i] for i in g) * len(g) for g in groups)

        def cuts(left):
            if not left:
                yield []
            for size in range(1, min(4, len(left)) + 1):
                for rest in cuts(left[size:]):
                    yield [left[:size], *rest]

        found = plan.grouped(rows, lengths, max_rows=4, pass_tokens=40)
        assert list(chain(*found)) == rows
        assert max(len(group) for group in found) <= 4
        assert cost(found) == min(cost(groups) for groups in cuts(rows))


def test_a_group_that_fits_one_row_is_packed_unless_padding_costs_nothing():
    lengths = [10, 10, 30, 40]
    assert plan.grouped([0, 1, 2, 3], lengths, 4, pack_tokens=90) == [[0, 1, 2, 3]]
    assert plan.is_packed([0, 1, 2, 3], lengths, 90)
    assert not plan.is_packed([0, 1, 2, 3], lengths, 89)
    assert not plan.is_packed([0, 1], lengths, 90)


def test_equal_lengths_are_never_cut_below_the_batch():
    assert plan.grouped(list(range(8)), [50] * 8, max_rows=4) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_even_groups_have_the_number_asked_for_however_few_the_rows():
    assert plan.even_groups([1, 2, 3], 2) == [[1, 2], [3]]
    assert plan.even_groups([1], 3) == [[1], [], []]
    assert plan.even_groups([], 2) == [[], []]
