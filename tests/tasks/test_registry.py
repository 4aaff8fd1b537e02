"""`TASKS` and `get_task`; `SelfCheck.passed`."""

import doctest

import pytest

import maxrl.tasks
from maxrl.errors import InputError
from maxrl.tasks import TASKS, SelfCheck, SubsetSum, get_task


def test_get_task_makes_the_task_with_its_parameters() -> None:
    assert TASKS["subset_sum"] is SubsetSum
    assert get_task("subset_sum") == SubsetSum()
    wanted = SubsetSum(num_elements=4, max_value=9, prompt_format="compact")
    assert get_task("subset_sum", num_elements=4, max_value=9, prompt_format="compact") == wanted


def test_an_unknown_task_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"unknown task 'subsetsum'; did you mean 'subset_sum'\?"):
        get_task("subsetsum")


def test_an_unknown_parameter_gets_the_nearest_name() -> None:
    message = r"unknown parameter of task subset_sum 'num_element'; did you mean 'num_elements'\?"
    with pytest.raises(InputError, match=message):
        get_task("subset_sum", num_element=4)


def test_a_parameter_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="num_elements=1 "):
        get_task("subset_sum", num_elements=1)


def test_public_names_exist_and_examples_in_docstrings_hold() -> None:
    assert set(maxrl.tasks.__all__) <= set(dir(maxrl.tasks))
    assert doctest.testmod(maxrl.tasks) == (0, 1)


@pytest.mark.parametrize(
    ("accepted", "refused", "passed"),
    [
        (5, {"a": 5, "b": 2}, True),
        (4, {"a": 5, "b": 2}, False),  # a gold was refused
        (5, {"a": 5, "b": 1}, False),  # a corruption slipped through
        (5, {"a": 5}, False),  # all of one kind slipped through
    ],
)
def test_self_check_passes_only_when_everything_held(
    accepted: int, refused: dict[str, int], passed: bool
) -> None:
    check = SelfCheck(problems=5, accepted=accepted, refused=refused, tried={"a": 5, "b": 2})
    assert check.passed is passed
