"""Templates: each family is what it says, in every language, and no problem is in both splits."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tasks.code.programs import TOOL, build, right

from maxrl.tasks.code.problems import LANGUAGES, RETURN_TYPES, Language, Problem
from maxrl.tasks.code.templates import FAMILIES, compact_prompt, draw_template, template_problem

DRAWN: dict[str, Any] = {"template": "linear", "name": "kilo", "parameters": ["n"], "constants": [3, 10]}


def _drawn(count: int, split: str = "train", seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [draw_template(rng, split) for _ in range(count)]  # pyright: ignore[reportArgumentType]


def _problem(drawn: dict[str, Any]) -> Problem:
    problem = template_problem(drawn)
    assert isinstance(problem, Problem), problem
    return problem


# Of arguments and constants; written apart from the families.
EXPECTED = {
    "add": lambda n, c: n + c,
    "subtract": lambda n, c: n - c,
    "multiply": lambda n, c: n * c,
    "linear": lambda n, c, d: c * n + d,
    "square": lambda n, c: n**2 + c,
    "at_most": lambda n, c: n if n <= c else c,
    "multiple": lambda n, c: n // c * c == n,
    "between": lambda n, c, d: n in range(c, d + 1),
    "larger": lambda a, b: sorted((a, b))[1],
    "smaller": lambda a, b: sorted((a, b))[0],
    "sum": lambda xs: int(sum(map(float, xs))),
    "count_above": lambda xs, c: len([x for x in xs if x - c >= 1]),
    "sum_above": lambda xs, c: sum(xs) - sum(x for x in xs if x <= c),
}


def test_expected_results_are_the_families_own() -> None:
    assert EXPECTED.keys() == FAMILIES.keys()
    for drawn in _drawn(500):
        problem = _problem(drawn)
        for case in problem.tests:
            assert case.expected == EXPECTED[drawn["template"]](*case.arguments, *drawn["constants"])
        assert type(case.expected).__name__ == problem.returns


def test_every_family_is_drawn_as_often() -> None:
    counts = Counter(drawn["template"] for drawn in _drawn(2600))
    assert counts.keys() == FAMILIES.keys()
    assert min(counts.values()) > 140  # of 200 expected


def test_cases_are_enough_and_differ() -> None:
    for drawn in _drawn(500):
        problem = _problem(drawn)
        assert len(problem.tests) >= 8
        assert len({case.arguments for case in problem.tests}) >= 8
        assert len({case.expected for case in problem.tests}) >= 2
        assert problem.returns in RETURN_TYPES


@pytest.mark.parametrize("language", LANGUAGES)
def test_solutions_pass_and_mistakes_fail(language: Language, tmp_path: Path) -> None:
    drawn = {drawn["template"]: _problem(drawn) for drawn in _drawn(300)}
    assert drawn.keys() == FAMILIES.keys()
    codes = {f"{name}_right": (problem, problem.solutions[language]) for name, problem in drawn.items()}
    codes |= {f"{name}_wrong": (problem, problem.wrong[language]) for name, problem in drawn.items()}
    programs, _ = build(language, TOOL[language], codes, tmp_path)
    for name, problem in drawn.items():
        assert right(programs[f"{name}_right"], problem) == len(problem.tests), problem.id
        assert right(programs[f"{name}_wrong"], problem) < len(problem.tests), problem.id


def test_python_solutions_pass_and_mistakes_fail_whatever_is_drawn() -> None:
    for drawn in _drawn(10_000, seed=1):
        problem = _problem(drawn)
        for code, passes in ((problem.solutions["python"], True), (problem.wrong["python"], False)):
            names: dict[str, Any] = {}
            exec(code, names)
            results = [names[problem.function](*case.arguments) for case in problem.tests]
            assert (results == [case.expected for case in problem.tests]) is passes, code


def test_no_other_constant_passes() -> None:
    for name in FAMILIES:
        for drawn in [one for one in _drawn(1500, seed=2) if one["template"] == name][:25]:
            problem, constants = _problem(drawn), drawn["constants"]
            for place in range(len(constants)):
                for other in {*range(1, 101)} - {constants[place]}:
                    changed = [*constants[:place], other, *constants[place + 1 :]]
                    results = [EXPECTED[name](*case.arguments, *changed) for case in problem.tests]
                    assert results != [case.expected for case in problem.tests], (drawn, other)


# What is right for some arguments; of arguments and constants.
SHORTCUTS = {
    "multiple": [
        lambda n, c: n in (0, c, -c),
        lambda n, c: n in (0, c, -c, 2 * c, -2 * c),
        lambda n, c: n >= 0 and n % c == 0,
    ],
    "between": [
        lambda n, c, d: n in (c, d) and d > c + 1,
        lambda n, c, d: c < n <= d,
        lambda n, c, d: n >= c,
        lambda n, c, d: n <= d,
    ],
    "at_most": [lambda n, c: n, lambda n, c: c if n > 0 else n, lambda n, c: min(abs(n), c)],
    "larger": [lambda a, b: a, lambda a, b: b, lambda a, b: max(abs(a), abs(b)), lambda a, b: max(a, b, 0)],
    "smaller": [lambda a, b: a, lambda a, b: b, lambda a, b: min(a, b, 0)],
    "sum": [lambda xs: sum(xs[:2]), lambda xs: sum(set(xs)), lambda xs: abs(sum(xs)), lambda xs: sum(xs[1:])],
    "count_above": [lambda xs, c: len(xs), lambda xs, c: len({x for x in xs if x > c})],
    "sum_above": [lambda xs, c: sum(xs), lambda xs, c: sum({x for x in xs if x > c})],
    "square": [lambda n, c: abs(n) + c, lambda n, c: n**3 + c],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_shortcuts_fail(name: str) -> None:
    for drawn in [one for one in _drawn(4000, seed=3) if one["template"] == name][:150]:
        problem = _problem(drawn)
        expected = [case.expected for case in problem.tests]
        constant = [lambda *_, value=value: value for value in set(expected)]
        for shortcut in [*SHORTCUTS.get(name, []), *constant]:
            results = [shortcut(*case.arguments, *drawn["constants"]) for case in problem.tests]
            assert results != expected, drawn


def test_no_problem_is_in_both_splits() -> None:
    train, evaluation = ({json.dumps(one) for one in _drawn(1500, split)} for split in ("train", "eval"))
    assert not train & evaluation
    assert len(train) > 1480
    assert len(evaluation) > 1480


def test_prompts_and_solutions_are_short() -> None:
    drawn = _drawn(500)
    assert max(len(compact_prompt(one)) for one in drawn) <= 30
    assert max(len(_problem(one).solutions["rust"]) for one in drawn) <= 80
    assert compact_prompt(DRAWN) == "kilo(n): times 3 add 10"
    problem = _problem(DRAWN)
    assert problem.solutions == {
        "rust": "fn kilo(n: i64) -> i64 { n * 3 + 10 }",
        "python": "def kilo(n): return n * 3 + 10",
        "c": "long long kilo(long long n) { return n * 3 + 10; }",
    }
    assert problem.statement.startswith("Return n times 3, plus 10.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"template": "divide"}, "'template'"),
        ({"template": None}, "'template'"),
        ({"name": "goto"}, "'name'"),
        ({"name": "kilo; evil"}, "'name'"),
        ({"name": ["kilo"]}, "'name'"),
        ({"parameters": []}, "'parameters'"),
        ({"parameters": ["n", "m"]}, "'parameters'"),
        ({"parameters": ["e"]}, "'parameters'"),
        ({"parameters": ["nm"]}, "'parameters'"),
        ({"parameters": [""]}, "'parameters'"),
        ({"parameters": [["n"]]}, "'parameters'"),
        ({"parameters": "n"}, "'parameters'"),
        ({"template": "larger", "parameters": ["n", "n"], "constants": []}, "'parameters'"),
        ({"constants": [3]}, "'constants'"),
        ({"constants": [3, 10, 11]}, "'constants'"),
        ({"constants": [10, 3]}, "'constants'"),
        ({"constants": [3, 3]}, "'constants'"),
        ({"constants": [1, 3]}, "'constants'"),
        ({"constants": [3, 100]}, "'constants'"),
        ({"constants": [3, 10.0]}, "'constants'"),
        ({"constants": [3, "10"]}, "'constants'"),
        ({"constants": None}, "'constants'"),
    ],
)
def test_what_was_never_drawn_is_no_problem(change: dict[str, Any], message: str) -> None:
    assert isinstance(template_problem(DRAWN), Problem)
    found = template_problem(DRAWN | change)
    assert isinstance(found, str)
    assert message in found


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3),
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(DRAWN, JSON)), st.sets(st.sampled_from(list(DRAWN))))
@settings(derandomize=True, database=None, deadline=None, max_examples=300)
def test_any_truth_is_read_or_refused(junk: dict[str, Any], kept: set[str]) -> None:
    found = template_problem(junk | {key: DRAWN[key] for key in kept})
    assert isinstance(found, Problem | str)
