from trainer.fit.heap import Heap, give_back_freed_memory


def given_back(lengths: list[int]) -> list[int]:
    """The passes before which memory was given back, counted from 0."""
    found: list[int] = []
    passes: list[int] = []
    heap = Heap(lambda: found.append(len(passes)))
    for tokens in lengths:
        heap.make_room(tokens)
        passes.append(tokens)
    return found


def test_memory_is_given_back_before_long_passes_that_follow_others() -> None:
    assert given_back([100, 40, 50, 90, 60, 79, 80]) == [3, 6]


def test_a_longer_pass_than_any_before_is_long() -> None:
    assert given_back([10, 20, 30]) == [1, 2]


def test_passes_of_one_length_never_give_back() -> None:
    assert given_back([128] * 20) == []


def test_giving_back_is_harmless_on_any_system() -> None:
    give_back_freed_memory()
