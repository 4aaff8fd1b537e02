"""The programming problems: well formed, solvable in every language, and not solved by a plausible mistake."""

import calendar
import heapq
import math
import os.path
import random
import re
import string
import subprocess
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import cache
from itertools import combinations, combinations_with_replacement, pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from tests.tasks.code.programs import RUST_COMPILERS, TOOLS, Programs, build, find, right

from maxrl.errors import InputError
from maxrl.tasks.code.problems import LANGUAGES, LEVELS, Case, Problem, load_problems, parse_problems

PROBLEMS = {problem.id: problem for problem in load_problems()}

ONE = """
[twice]
level = "easy"
statement = '''
Return twice
n.

It fits.'''
parameters = [["n", "int"]]
returns = "int"
cases = [[[0], 0], [[1], 2], [[2], 4], [[3], 6], [[4], 8], [[5], 10], [[6], 12], [[-1], -2]]
solutions = { rust = "n * 2", python = "return 2 * n", c = "return n + n;" }
mistakes = { rust = ["*", "+"], python = ["2", "3"], c = ["n + n", "n"] }
"""


# ------------------------------------------------------------------------------------------------------------- loading


def test_there_are_problems_of_every_level_in_order() -> None:
    levels = [problem.level for problem in load_problems()]
    assert levels == sorted(levels, key=LEVELS.index)
    assert [levels.count(level) for level in LEVELS] == [12, 10, 8]
    assert len(PROBLEMS) == len(levels)


def test_problems_are_loaded_once() -> None:
    assert load_problems() is load_problems()


def test_every_problem_has_a_solution_and_another_wrong_one_in_every_language() -> None:
    for problem in PROBLEMS.values():
        assert set(problem.solutions) == set(problem.wrong) == set(LANGUAGES)
        assert all(problem.solutions[language] != problem.wrong[language] for language in LANGUAGES)


def test_parsing_reads_every_part() -> None:
    (problem,) = parse_problems(ONE)
    assert problem == Problem(
        id="twice",
        level="easy",
        statement="Return twice n.\n\nIt fits.",
        function="twice",
        parameters=(("n", "int"),),
        returns="int",
        tests=tuple(Case(arguments=(n,), expected=2 * n) for n in (0, 1, 2, 3, 4, 5, 6, -1)),
        solutions={"rust": "n * 2", "python": "return 2 * n", "c": "return n + n;"},
        wrong={"rust": "n + 2", "python": "return 3 * n", "c": "return n;"},
    )


def test_lists_become_tuples() -> None:
    text = ONE.replace('["n", "int"]', '["xs", "list[int]"]').replace(
        'returns = "int"', 'returns = "list[int]"'
    )
    cases = ", ".join(f"[[[{n}, 1]], [{n}]]" for n in range(8))
    (problem,) = parse_problems(re.sub(r"cases = .*", f"cases = [{cases}]", text))
    assert problem.tests[3] == Case(arguments=((3, 1),), expected=(3,))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[twice]", "[twice", "not valid TOML"),
        ("[twice]\n", "twice = 3\n[other]\n", "'twice' is no problem: a table is needed, got 3"),
        ("[twice]", "[Twice]", "lower-case"),
        ("[twice]", '["two words"]', "lower-case"),
        ('level = "easy"\n', "", "must have the keys"),
        ('level = "easy"', 'level = "easy"\nhint = "add"', "must have the keys"),
        ('"easy"', '"eazy"', "did you mean 'easy'"),
        ('returns = "int"', 'returns = "list[str]"', "unknown return type"),
        ('returns = "int"', 'returns = ["int"]', "unknown return type"),
        ("Return twice\nn.\n\nIt fits.", " \n", "statement must be text"),
        ('["n", "int"]', '["n", "float"]', "a parameter is"),
        ('["n", "int"]', '["N", "int"]', "lower-case"),
        ('["n", "int"]', '[3, "int"]', "lower-case"),
        ('["n", "int"]', '"n"', "a parameter is"),
        ('[["n", "int"]]', "[]", "needs parameters"),
        ('[["n", "int"]]', '[["n", "int"], ["n", "int"]]', "each with its own name"),
        ("[[0], 0]", "[[0, 0], 0]", "a case is"),
        ("[[0], 0]", "[0, 0]", "a case is"),
        ("[[0], 0]", "[[0], 0, 0]", "a case is"),
        ("[[0], 0]", "[[0.0], 0]", "a case is"),
        ("[[0], 0]", "[[true], 0]", "a case is"),
        ("[[0], 0]", "[[0], '0']", "a case is"),
        ("[[0], 0]", "[[9223372036854775808], 0]", "a case is"),
        ("[[0], 0]", "[[0], -9223372036854775809]", "a case is"),
        ("[[0], 0], ", "", "at least 8 cases"),
        ("cases = [", "cases = 3 # ", "at least 8 cases"),
        ('rust = "n * 2"', "rust = 2", "must be text"),
        ('rust = "n * 2", ', "", "solutions must be given for"),
        ('c = ["n + n", "n"]', 'cpp = ["n + n", "n"]', "mistakes must be given for"),
        ('["*", "+"]', '["*", "*"]', "the mistake in rust"),
        ('["*", "+"]', '["/", "+"]', "occurs once"),
        ('c = ["n + n", "n"]', 'c = ["n", "m"]', "occurs once"),
        ('["*", "+"]', '"*"', "the mistake in rust"),
    ],
)
def test_a_broken_file_is_refused(old: str, new: str, message: str) -> None:
    assert old in ONE
    with pytest.raises(InputError, match=re.escape(message)):
        parse_problems(ONE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("bool", "1"),
        ("bool", "'true'"),
        ("str", "1"),
        ("str", r'"a\n"'),
        ("str", "'é'"),
        ("str", f"'{'x' * 1024}'"),
        ("list[int]", "1"),
        ("list[int]", "['1']"),
        ("list[int]", f"{[1] * 1025}"),
        ("list[str]", "[1]"),
        ("list[str]", "'abc'"),
    ],
)
def test_a_value_of_another_type_is_refused(type_: str, value: str) -> None:
    text = ONE.replace('"n", "int"', f'"n", "{type_}"')
    cases = ", ".join(f"[[{value}], {n}]" for n in range(8))
    with pytest.raises(InputError, match="a case is"):
        parse_problems(re.sub(r"cases = .*", lambda _: f"cases = [{cases}]", text))


def test_cases_with_one_result_are_refused() -> None:
    cases = ", ".join(f"[[{n}], 7]" for n in range(8))
    with pytest.raises(InputError, match="results that differ"):
        parse_problems(re.sub(r"cases = .*", f"cases = [{cases}]", ONE))


# ---------------------------------------------------------------------------------------------- solutions, as programs


@pytest.fixture(scope="module", params=TOOLS, ids="-".join)
def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """A program per problem and kind, by one tool; none of them may cause a warning."""
    language, tool = request.param
    codes = {f"right_{problem.id}": (problem, problem.solutions[language]) for problem in load_problems()}
    codes |= {f"wrong_{problem.id}": (problem, problem.wrong[language]) for problem in load_problems()}
    built, said = build(language, tool, codes, tmp_path_factory.mktemp(language))
    assert said == ""
    return built


def test_every_solution_passes(programs: Programs) -> None:
    passed = {id_: right(programs[f"right_{id_}"], problem) for id_, problem in PROBLEMS.items()}
    assert passed == {id_: len(problem.tests) for id_, problem in PROBLEMS.items()}


def test_every_mistake_fails_a_case(programs: Programs) -> None:
    passing = [
        id_
        for id_, problem in PROBLEMS.items()
        if right(programs[f"wrong_{id_}"], problem) == len(problem.tests)
    ]
    assert passing == []


def test_solutions_agree_with_others_on_random_arguments(programs: Programs) -> None:
    wrong: dict[str, int] = {}
    for id_, problem in PROBLEMS.items():
        rng = random.Random(id_)
        solution = OTHERS.get(id_) or _python_solution(problem)
        tests: list[Case] = []
        for _ in range(60):
            arguments = ARGUMENTS[id_](rng)
            tests.append(Case(arguments=_frozen(arguments), expected=_frozen([solution(*arguments)])[0]))
        wrong[id_] = len(tests) - right(programs[f"right_{id_}"], replace(problem, tests=tuple(tests)))
    assert wrong == dict.fromkeys(PROBLEMS, 0)


@pytest.mark.parametrize("compiler", RUST_COMPILERS)
def test_rust_solutions_are_clean_as_libraries(compiler: str, tmp_path: Path) -> None:
    # As they are compiled on their own: a function that is not `pub` would be dead code there.
    source = tmp_path / "all.rs"
    modules = [f"pub mod {id_} {{\n{problem.solutions['rust']}}}\n" for id_, problem in PROBLEMS.items()]
    source.write_text("#![warn(missing_docs)]\n//! All.\n" + "/// One.\n".join(["", *modules]))
    command = [find("rust", compiler), "--crate-type=lib", "--edition=2021", "--emit=metadata"]
    done = subprocess.run([*command, str(source)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def _python_solution(problem: Problem) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(problem.solutions["python"], names)
    return names[problem.function]


def _frozen(values: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


# --------------------------------------------------------------------------------------- other solutions, mostly slower


def _changes(text: str, shift: int) -> str:
    small, capital = string.ascii_lowercase, string.ascii_uppercase
    k = shift % 26
    return text.translate(str.maketrans(small + capital, small[k:] + small[:k] + capital[k:] + capital[:k]))


def _balanced(text: str) -> bool:
    text = re.sub(r"[^][(){}]", "", text)
    while text != (shorter := re.sub(r"\(\)|\[\]|\{\}", "", text)):
        text = shorter
    return text == ""


def _roman(n: int) -> str:
    thousands, rest = divmod(n, 1000)
    digits = [rest // 100, rest // 10 % 10, rest % 10]
    forms = ["", "0", "00", "000", "01", "1", "10", "100", "1000", "02"]
    letters = ["CDM", "XLC", "IVX"]
    parts = ["".join(trio[int(i)] for i in forms[digit]) for trio, digit in zip(letters, digits, strict=True)]
    return "M" * thousands + "".join(parts)


@cache
def _distance(a: str, b: str) -> int:
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return _distance(a[1:], b[1:])
    return 1 + min(_distance(a[1:], b), _distance(a, b[1:]), _distance(a[1:], b[1:]))


def _increasing(numbers: list[int]) -> int:
    rising = (
        size
        for size in range(len(numbers), 0, -1)
        for chosen in combinations(numbers, size)
        if all(x < y for x, y in pairwise(chosen))
    )
    return next(rising, 0)


def _order(count: int, pairs: list[int]) -> list[int]:
    conditions = list(zip(pairs[::2], pairs[1::2], strict=True))
    for order in permutations(range(count)):
        if all(order.index(x) < order.index(y) for x, y in conditions):
            return list(order)
    return []


def _meetings(starts: list[int], ends: list[int]) -> int:
    meetings = sorted(zip(starts, ends, strict=True))
    possible = (
        size
        for size in range(len(meetings), 0, -1)
        for chosen in combinations(meetings, size)
        if all(x[1] <= y[0] for x, y in pairwise(chosen))
    )
    return next(possible, 0)


def _chain(sizes: list[int]) -> int:
    """Tries every pair of neighbours for the first multiplication."""
    costs = [
        sizes[i - 1] * sizes[i] * sizes[i + 1] + _chain(sizes[:i] + sizes[i + 1 :])
        for i in range(1, len(sizes) - 1)
    ]
    return min(costs, default=0)


def _coins(coins: list[int], amount: int) -> int:
    possible = (
        count
        for count in range(amount + 1)
        for chosen in combinations_with_replacement(coins, count)
        if sum(chosen) == amount
    )
    return next(possible, -1)


OTHERS: dict[str, Callable[..., Any]] = {
    "largest_of_three": lambda a, b, c: sorted([a, b, c])[2],
    "is_leap_year": calendar.isleap,
    "count_vowels": lambda text: len(re.findall("[aeiou]", text, re.IGNORECASE)),
    "digit_sum": lambda n: sum(Decimal(n).as_tuple().digits),
    "clamp": lambda value, low, high: sorted([value, low, high])[1],
    "count_odd": lambda numbers: sum(number & 1 for number in numbers),
    "fizz_buzz": lambda n: "fizz" * (n % 3 == 0) + "buzz" * (n % 5 == 0) or str(n),
    "running_totals": lambda numbers: [sum(numbers[: i + 1]) for i in range(len(numbers))],
    "greatest_common_divisor": math.gcd,
    "smallest_factor": lambda n: next(divisor for divisor in range(2, n + 1) if n % divisor == 0),
    "merge_sorted": lambda xs, ys: list(heapq.merge(xs, ys)),
    "caesar_shift": _changes,
    "run_lengths": lambda text: re.sub(r"(.)\1*", lambda run: f"{run[1]}{len(run[0])}", text),
    "balanced": _balanced,
    "best_profit": lambda prices: max([0, *(y - x for x, y in combinations(prices, 2))]),
    "to_roman": _roman,
    "most_frequent": lambda words: max(sorted(set(words)), key=words.count, default=""),
    "common_prefix": os.path.commonprefix,
    "edit_distance": _distance,
    "longest_increasing": _increasing,
    "evaluate": eval,
    "build_order": _order,
    "most_meetings": _meetings,
    "matrix_chain": _chain,
    "fewest_coins": _coins,
}


def _integers(rng: random.Random, most: int = 8, low: int = -9, high: int = 9) -> list[int]:
    return [rng.randint(low, high) for _ in range(rng.randint(0, most))]


def _text(rng: random.Random, letters: str, most: int = 12) -> str:
    return "".join(rng.choices(letters, k=rng.randint(0, most)))


def _words(rng: random.Random) -> list[str]:
    return [_text(rng, "aaB", 3) for _ in range(rng.randint(0, 6))]


def _wide(rng: random.Random) -> int:
    """As often small as large."""
    size = 10 ** rng.randint(0, 18)
    return rng.randint(-size, size)


def _expression(rng: random.Random, depth: int = 3) -> str:
    if depth == 0 or rng.random() < 0.2:
        return str(rng.randint(0, 12))
    inner = f" {rng.choice('+-*')}".join(_expression(rng, depth - 1) for _ in range(rng.randint(2, 3)))
    return f"({inner})" if rng.random() < 0.5 else inner


def _spans(rng: random.Random) -> list[list[int]]:
    starts = _integers(rng)
    return [starts, [start + rng.randint(1, 5) for start in starts]]


def _jobs(rng: random.Random) -> list[Any]:
    count = rng.randint(0, 6)
    conditions = rng.randint(0, 6) if count else 0
    return [count, [rng.randrange(count) for _ in range(2 * conditions)]]


ARGUMENTS: dict[str, Callable[[random.Random], list[Any]]] = {
    "add": lambda rng: [_wide(rng), _wide(rng)],
    "largest_of_three": lambda rng: [rng.randint(-3, 3) for _ in range(3)],
    "is_leap_year": lambda rng: [rng.randint(1, 40) * rng.choice([1, 4, 100])],
    "count_vowels": lambda rng: [_text(rng, string.printable[:95])],
    "digit_sum": lambda rng: [_wide(rng)],
    "backwards": lambda rng: [_text(rng, string.printable[:95])],
    "clamp": lambda rng: [rng.randint(-9, 9), *sorted([rng.randint(-9, 9), rng.randint(-9, 9)])],
    "count_odd": lambda rng: [_integers(rng)],
    "first_index": lambda rng: [_integers(rng, 8, 0, 4), rng.randint(0, 4)],
    "is_palindrome": lambda rng: [_text(rng, "ab", 6)],
    "fizz_buzz": lambda rng: [rng.randint(0, 60)],
    "running_totals": lambda rng: [[_wide(rng) // 10 for _ in range(rng.randint(0, 8))]],
    "greatest_common_divisor": lambda rng: [_wide(rng), _wide(rng)],
    "smallest_factor": lambda rng: [rng.randint(2, 400)],
    "merge_sorted": lambda rng: [sorted(_integers(rng)), sorted(_integers(rng))],
    "caesar_shift": lambda rng: [_text(rng, string.ascii_letters + " ,1"), rng.randint(-60, 60)],
    "run_lengths": lambda rng: [_text(rng, "aaaaaab", 40)],
    "balanced": lambda rng: [_text(rng, "(){x}[]", 6)],
    "best_profit": lambda rng: [_integers(rng, 8, 0, 20)],
    "to_roman": lambda rng: [rng.randint(1, 3999)],
    "most_frequent": lambda rng: [_words(rng)],
    "common_prefix": lambda rng: [_words(rng)],
    "edit_distance": lambda rng: [_text(rng, "abc", 6), _text(rng, "abc", 6)],
    "longest_increasing": lambda rng: [_integers(rng)],
    "evaluate": lambda rng: [_expression(rng)],
    "build_order": _jobs,
    "most_meetings": lambda rng: list(_spans(rng)),
    "matrix_chain": lambda rng: [_integers(rng, 7, 1, 20)],
    "count_queens": lambda rng: [rng.randint(0, 6)],
    "fewest_coins": lambda rng: [rng.sample(range(1, 9), rng.randint(0, 3)), rng.randint(0, 14)],
}
