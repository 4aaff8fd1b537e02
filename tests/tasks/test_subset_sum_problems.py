"""Subset-sum: the problems it makes, how it words them, and how it demonstrates them."""

from collections import Counter
from itertools import combinations, combinations_with_replacement

import pytest

from maxrl.errors import InputError
from maxrl.tasks import Example, SubsetSum

SIZES = [(2, 2), (3, 5), (6, 20), (10, 50), (12, 10), (32, 1000)]


def _solutions(numbers: list[int], target: int) -> list[tuple[int, ...]]:
    """Every subset of positions that adds up to the target, by trying them all."""
    sizes = range(1, len(numbers) + 1)
    return [c for size in sizes for c in combinations(numbers, size) if sum(c) == target]


@pytest.mark.parametrize(("num_elements", "max_value"), SIZES)
def test_numbers_and_targets_stay_in_their_bounds(num_elements: int, max_value: int) -> None:
    for example in SubsetSum(num_elements=num_elements, max_value=max_value).examples("train", 100):
        numbers, target = example.truth["numbers"], example.truth["target"]
        assert len(numbers) == num_elements
        assert all(type(number) is int and 1 <= number <= max_value for number in numbers)
        assert min(numbers) <= target <= sum(sorted(numbers)[-(num_elements // 2) :])


@pytest.mark.parametrize(("num_elements", "max_value"), SIZES[:-1])
def test_some_subset_of_at_most_half_the_numbers_reaches_the_target(
    num_elements: int, max_value: int
) -> None:
    for example in SubsetSum(num_elements=num_elements, max_value=max_value).examples("eval", 100):
        shortest = min(map(len, _solutions(example.truth["numbers"], example.truth["target"])))
        assert shortest <= num_elements // 2


def test_planted_subsets_have_every_size_from_one_to_half() -> None:
    # With values up to 1000 the planted subset is nearly always the only short one, so its size shows.
    sizes: Counter[int] = Counter()
    for example in SubsetSum(num_elements=8, max_value=1000).examples("train", 400):
        sizes[min(map(len, _solutions(example.truth["numbers"], example.truth["target"])))] += 1
    assert set(sizes) == {1, 2, 3, 4}
    assert all(60 <= many <= 140 for many in sizes.values())  # 100 each expected; sd 8.7


def test_numbers_are_uniform() -> None:
    counts: Counter[int] = Counter()
    for example in SubsetSum(max_value=20).examples("train", 10_000):
        counts.update(example.truth["numbers"])
    # 60,000 draws of 20 values: 3,000 each, standard deviation 53; five of those either way.
    assert set(counts) == set(range(1, 21))
    assert all(abs(many - 3000) < 5 * 53 for many in counts.values())


def test_every_position_is_planted_equally_often() -> None:
    # n = 2 plants one number; where the two differ, the target says which.
    first = second = 0
    for example in SubsetSum(num_elements=2, max_value=1000).examples("train", 2000):
        (a, b), target = example.truth["numbers"], example.truth["target"]
        first += target == a != b
        second += target == b != a
    assert abs(first - second) < 5 * 45  # sd of the difference √2000 ≈ 45


def test_the_wording_does_not_change_the_problem_but_the_size_does() -> None:
    chat = SubsetSum().examples("train", 50)
    compact = SubsetSum(prompt_format="compact").examples("train", 50)
    assert [e.truth for e in chat] == [e.truth for e in compact]
    assert [e.truth for e in chat] != [e.truth for e in SubsetSum(max_value=21).examples("train", 50)]


def test_streams_are_pinned() -> None:
    # Results on file name problems by id: a change here makes them incomparable and needs a new task name.
    (example,) = SubsetSum(prompt_format="compact").examples("train", 1)
    assert example == Example(
        id="train-0-0",
        prompt="15 4 2 18 9 20 = 15 :",
        truth={"numbers": [15, 4, 2, 18, 9, 20], "target": 15},
    )
    (example,) = SubsetSum(num_elements=3, max_value=9).examples("eval", 1, seed=1, start=2)
    assert example.truth == {"numbers": [3, 4, 8], "target": 4}


def test_chat_prompt_states_the_problem_and_the_form_of_the_answer() -> None:
    (example,) = SubsetSum().examples("train", 1)
    (message,) = example.prompt
    assert message["role"] == "user"
    assert "6 numbers: 15, 4, 2, 18, 9, 20\n" in message["content"]
    assert "exactly 15." in message["content"]
    assert "ONLY the selected numbers separated by commas" in message["content"]


def test_demonstrations_use_the_separator_of_their_form() -> None:
    # From 3 17 5 9 20 1, 26 is 3 + 17 + 5 + 1, 17 + 9 and 5 + 20 + 1: all are shown, in list order.
    truth = {"numbers": [3, 17, 5, 9, 20, 1], "target": 26}
    examples = [Example(id=f"train-0-{i}", prompt="", truth=truth) for i in range(50)]
    assert {SubsetSum().demonstration(e) for e in examples} == {"3, 17, 5, 1", "17, 9", "5, 20, 1"}
    compact = SubsetSum(prompt_format="compact")
    assert {compact.demonstration(e) for e in examples} == {"3 17 5 1", "17 9", "5 20 1"}


def test_demonstrations_reach_exactly_the_solutions_of_every_small_problem() -> None:
    task = SubsetSum(prompt_format="compact")
    for size in (2, 3, 4):
        for numbers in combinations_with_replacement(range(1, 5), size):
            for target in {sum(c) for k in range(1, size + 1) for c in combinations(numbers, k)}:
                truth = {"numbers": list(numbers[::-1]), "target": target}
                shown = {
                    task.demonstration(Example(id=f"train-0-{i}", prompt="", truth=truth)) for i in range(40)
                }
                solutions = _solutions(list(numbers[::-1]), target)
                assert shown == {" ".join(map(str, solution)) for solution in solutions}


def test_demonstrations_are_uniform_over_subsets_of_positions() -> None:
    # 1 + 2, the first 3, the second 3: three subsets, two of them written "3".
    truth = {"numbers": [1, 2, 3, 3], "target": 3}
    task = SubsetSum()
    shown = Counter(task.demonstration(Example(id=f"x-{i}", prompt="", truth=truth)) for i in range(3000))
    assert set(shown) == {"1, 2", "3"}
    assert abs(shown["1, 2"] - 1000) < 5 * 26  # sd √(3000 · 1/3 · 2/3) ≈ 26


def test_demonstrations_are_of_every_length() -> None:
    task = SubsetSum()
    lengths = Counter(len(task.demonstration(e).split(",")) for e in task.examples("train", 1000))
    assert {1, 2, 3, 4} <= set(lengths)
    assert max(lengths.values()) < 700


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"numbers": [2, 4], "target": 5}, r"'train-0-0'.*no subset of \[2, 4\] adds up to 5"),
        ({"numbers": [2, 4]}, "'train-0-0'.*target"),
    ],
)
def test_a_problem_without_solution_cannot_be_demonstrated(truth: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SubsetSum().demonstration(Example(id="train-0-0", prompt="", truth=truth))


def test_vocabulary_is_every_number_up_to_the_largest_target() -> None:
    assert SubsetSum().vocabulary() is None
    vocabulary = SubsetSum(num_elements=5, max_value=3, prompt_format="compact").vocabulary()
    assert vocabulary is not None
    # Two of the numbers at most are planted, and 2 · 3 = 6.
    assert vocabulary.words == ("1", "2", "3", "4", "5", "6", "=", ":")


@pytest.mark.parametrize(
    ("parameter", "allowed", "values"),
    [
        ("num_elements", "from 2 to 32", [1, 0, -6, 33, 6.0, True, "6", None]),
        ("max_value", "from 2 to 1000", [1, 0, -20, 1001, 20.0, False, "20", None]),
    ],
)
def test_numbers_out_of_range_or_of_another_type_are_refused(
    parameter: str, allowed: str, values: list[object]
) -> None:
    for value in values:
        with pytest.raises(InputError) as caught:
            SubsetSum(**{parameter: value})
        assert str(caught.value) == f"{parameter}={value!r} is not allowed; give a whole number {allowed}"


@pytest.mark.parametrize("value", ["chatt", "CHAT", "", None, 3, ["chat"]])
def test_an_unknown_prompt_format_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"unknown prompt_format .*\(known: chat, compact\)"):
        SubsetSum(prompt_format=value)


def test_the_bounds_themselves_are_allowed() -> None:
    assert SubsetSum(num_elements=2, max_value=2).self_check(50).passed
    assert SubsetSum(num_elements=32, max_value=1000).self_check(5).passed
