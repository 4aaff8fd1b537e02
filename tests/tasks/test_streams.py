"""The random streams that problems come from."""

import pytest

from maxrl.errors import InputError
from maxrl.tasks.streams import check_integer, problem_streams, random_stream


def test_a_stream_depends_on_its_whole_key_and_nothing_else() -> None:
    keys = [("a", 1), ("a", 2), ("b", 1), ("a", "1"), ("a1",), ("a", 1, 0), ({"n": 1}, 1), ({"n": 2}, 1)]
    draws = [random_stream(*key).getrandbits(64) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [random_stream(*key).getrandbits(64) for key in keys]


def test_parts_of_a_key_do_not_run_together() -> None:
    assert random_stream("a", "bc").random() != random_stream("ab", "c").random()


def test_the_order_in_which_parameters_are_given_does_not_matter() -> None:
    assert random_stream({"a": 1, "b": 2}).random() == random_stream({"b": 2, "a": 1}).random()


def test_any_string_makes_a_key() -> None:
    assert random_stream("é\ud800\0").random() == random_stream("é\ud800\0").random()


def test_problem_streams_name_and_seed_each_problem() -> None:
    streams = list(problem_streams("t", {"n": 1}, "eval", 2, seed=3, start=5))
    assert [id_ for id_, _ in streams] == ["eval-3-5", "eval-3-6"]
    assert streams[1][1].random() == random_stream("t", {"n": 1}, "eval", 3, 6).random()


def test_a_bad_request_is_refused_on_the_call() -> None:
    with pytest.raises(InputError, match="count=-1"):
        problem_streams("t", {}, "train", -1, seed=0, start=0)


@pytest.mark.parametrize("value", [2, 3, 4])
def test_integers_in_range_pass(value: int) -> None:
    check_integer("x", value, 2, 4)
    check_integer("x", value + 10**30, 2)


@pytest.mark.parametrize("value", [1, 5, -3, 3.0, True, "3", None, float("nan"), [3]])
def test_everything_else_is_refused(value: object) -> None:
    with pytest.raises(InputError) as caught:
        check_integer("x", value, 2, 4)
    assert str(caught.value) == f"x={value!r} is not allowed; give a whole number from 2 to 4"
