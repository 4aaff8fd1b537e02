"""The problems written for this project: every answer found again in a second way, by brute force where that is possible."""

import json
from collections.abc import Callable
from fractions import Fraction
from importlib.resources import files
from itertools import combinations, permutations, product
from math import comb, gcd
from typing import Any

import pytest
import sympy
from sympy import I, Interval, Matrix, Rational, Symbol, oo, pi, sqrt

from maxrl.tasks.math.sources import load_problems
from maxrl.tasks.math.task import GSM8K, Math, judge_answers

x = Symbol("x", real=True)
y = Symbol("y", real=True)


def _first(condition: Callable[[int], bool]) -> int:
    """The only number below 10,000, in absolute value, that meets a condition."""
    found = [number for number in range(-10_000, 10_000) if condition(number)]
    assert len(found) == 1, found
    return found[0]


def _weeks(kilometres: list[int], weeks: int) -> int:
    return sum(kilometres * weeks)


def _elevator() -> int:
    floor = 3
    for move in (11, -16, 5):
        floor += move
    return floor


def _slices(shares: list[int]) -> int:
    left = 8 + 8 + 8
    for share in shares:
        left -= share
    return left


NUMBERS: dict[str, Any] = {
    "gsm8k-ferry": sum(34 for _ in range(9 - 2)),
    "gsm8k-lanterns": 6 * 4 + 6 * 2 - 11,
    "gsm8k-bakery": sum([4] * 27 + [13] * 8),
    "gsm8k-orchard": 18 * 25 + 8 * (3 - 1),
    "gsm8k-train-ride": (13 * 60 + 5) - (9 * 60 + 40) - 25,
    "gsm8k-marbles": 3 * (tom := _first(lambda n: n + 3 * n == 92)) - tom,
    "gsm8k-paint": _first(lambda n: n * 14 == 4 * 21 * 2),
    "gsm8k-bus-tickets": Fraction(50) - 5 * 4 - 16 * Fraction(3, 2),
    "gsm8k-beehives": divmod(sum([15] * 7) - 9, 8)[0],
    "gsm8k-runner": _weeks([5, 5, 5, 5, 5, 12, 12], 6),
    "gsm8k-library": Fraction(1840) * Fraction(115, 100) - 116,
    "gsm8k-savings": _first(lambda price: 35 * 8 - price == 64),
    "gsm8k-fish-tank": _first(lambda minutes: 9 * minutes - minutes == 240),
    "gsm8k-chess-club": 45 * Fraction(2, 5) * Fraction(1, 3),
    "gsm8k-temperature": range(7, -100, -3)[17 - 12],
    "gsm8k-ribbons": _first(lambda pieces: pieces * 40 == 600) * 2,
    "gsm8k-theatre": 24 * 32 - Fraction(3, 4) * 24 * 32,
    "gsm8k-shirts": sum(12 if number % 3 == 0 else 24 for number in range(1, 7)),
    "gsm8k-ages": _first(lambda greta: greta + 5 == 2 * (greta - 8 + 5)),
    "gsm8k-printer": Fraction(5 * 63, 18) + 2,
    "gsm8k-goats": Fraction(sum([12 * 2] * 28), 16),
    "gsm8k-stamps": Fraction(150 - 24 + 15, 3),
    "gsm8k-tower": len(range(0, 120, 8)[:-6]) * 8,
    "gsm8k-population": 2500 * Fraction(104, 100) * Fraction(105, 100),
    "gsm8k-pens": sum([12 - 4] * 15),
    "gsm8k-hike": 3 * Fraction(4) + 2 * Fraction(5, 2),
    "gsm8k-pizza": _slices([5, 5, 4, 4]),
    "gsm8k-coins": next(20 * n + 5 * (40 - n) for n in range(41) if 40 - n == 3 * n),
    "gsm8k-novel": _first(lambda pages: pages - 30 * 9 == 84),
    "gsm8k-parking": 3 + sum([Fraction(7, 4)] * 4),
    "gsm8k-discount": 160 * Fraction(3, 4) - 15,
    "gsm8k-garden": 14 + 9 + 14 + 9 - 2,
    "gsm8k-overtime": sum(Fraction(18) if hour <= 40 else Fraction(27) for hour in range(1, 47)),
    "gsm8k-soup": Fraction(900, 6) * 10,
    "gsm8k-kites": 63 * Fraction(2, 3) * Fraction(1, 2),
    "gsm8k-elevator": _elevator(),
    "math-linear": _first(lambda n: 3 * (n - 4) == 5 * n + 6),
    "math-dice": Fraction(sum(a * b % 2 for a, b in product(range(1, 7), repeat=2)), 36),
    "math-remainder": pow(7, 100, 13),
    "math-committee": len(list(combinations(range(9), 3))),
    "math-geometric-series": Fraction(6) / (1 - Fraction(4, 6)),
    "math-log": _first(lambda n: n > -3 and n + 3 == 2**5),
    "math-gcd": gcd(924, 1274),
    "math-percent-change": Fraction(125, 100) * Fraction(80, 100) - 1,
    "math-arithmetic-mean": _first(lambda n: n + Fraction("12.4") * 5 == 13 * 6),
    "math-divisors": sum(360 % n == 0 for n in range(1, 361)),
    "math-speed": 2 / (Fraction(1, 12) + Fraction(1, 18)),
    "math-fraction-equation": _first(
        lambda n: n != 0 and Fraction(2, n or 1) + Fraction(1, 3) == Fraction(5, 6)
    ),
    "math-cards": Fraction(sum((a + b) % 2 == 0 for a, b in combinations(range(1, 6), 2)), 10),
    "math-mod-inverse": pow(5, -1, 17),
    "math-trapezoid": (Fraction(7) + 12) / 2 * 5,
    "math-anagrams": len(set(permutations("BANANA"))),
    "math-angle": Fraction(7, 2 + 3 + 7) * 180,
    "math-mixed-fraction": 2 + Fraction(1, 3) - 3 - Fraction(3, 4),
}
"""What is a number."""

# Expressions: what sympy finds, and what the answer says, written in sympy by hand.
EXPRESSIONS: dict[str, tuple[Any, Any, str]] = {
    "math-quadratic-roots": (set(sympy.solve(x**2 - 5 * x - 14, x)), {-2, 7}, "-2, 7"),
    "math-surd": (sqrt(75) + sqrt(12), 7 * sqrt(3), r"7\sqrt{3}"),
    "math-vertex": (
        (root := sympy.solve(sympy.diff(2 * x**2 - 12 * x + 11, x), x)[0], 2 * root**2 - 12 * root + 11),
        (3, -7),
        "(3, -7)",
    ),
    "math-interval": (
        sympy.solve_univariate_inequality(x**2 - 3 * x - 4 <= 0, x, False),
        Interval(-1, 4),
        "[-1, 4]",
    ),
    "math-domain": (
        sympy.solve_univariate_inequality(5 - x > 0, x, False),
        Interval.open(-oo, 5),
        r"(-\infty, 5)",
    ),
    "math-factor": (sympy.expand((2 * x - 3) * (x + 5)), 2 * x**2 + 7 * x - 15, "2x^2 + 7x - 15"),
    "math-circle-area": (pi * sympy.solve(2 * pi * x - 10 * pi, x)[0] ** 2, 25 * pi, r"25\pi"),
    "math-hypotenuse": (sqrt(4**2 + 6**2), 2 * sqrt(13), r"2\sqrt{13}"),
    "math-complex": (sympy.expand((2 + 3 * I) * (1 - 4 * I)), 14 - 5 * I, "14 - 5i"),
    "math-system": (sympy.linsolve([2 * x + y - 1, x - 3 * y - 11], [x, y]).args[0], (2, -3), "(2, -3)"),
    "math-derivative": (
        sympy.expand(sympy.diff(x**3 * sympy.exp(x), x)),
        sympy.expand((x**3 + 3 * x**2) * sympy.exp(x)),
        "(x^3 + 3x^2)e^x",
    ),
    "math-absolute": (set(sympy.solve(sympy.Abs(2 * x - 1) - 7, x)), {-3, 4}, "-3, 4"),
    "math-parity": (sum(comb(10, k) % 2 for k in range(11)) % 2, 0, r"\text{even}"),
    "math-surd-fraction": (sympy.radsimp(6 / (sqrt(7) - 2)), 4 + 2 * sqrt(7), r"4 + 2\sqrt{7}"),
    "math-line": (
        sympy.expand(sympy.interpolate([(1, 5), (3, -1)], x)),
        -3 * x + 8,
        "y = -3x + 8",
    ),
    "math-union": (
        sympy.solve_univariate_inequality(x**2 > 9, x, False),
        Interval.open(-oo, -3) | Interval.open(3, oo),
        r"(-\infty, -3) \cup (3, \infty)",
    ),
    "math-cone": (
        sympy.integrate(pi * (Rational(3, 8) * x) ** 2, (x, 0, 8)),
        24 * pi,
        r"24\pi",
    ),
    "math-matrix": (
        Matrix([[1, 2], [3, 4]]) ** 2,
        Matrix([[7, 10], [15, 22]]),
        r"\begin{pmatrix} 7 & 10 \\ 15 & 22 \end{pmatrix}",
    ),
}

ROWS = [
    json.loads(line)
    for line in files("maxrl.tasks.math").joinpath("data/problems.jsonl").read_text("utf-8").splitlines()
]
ANSWERS = {row["id"]: row["answer"] for row in ROWS}

TASKS = [GSM8K(**GSM8K.check_parameters), Math(**Math.check_parameters)]


def test_every_answer_is_checked_here() -> None:
    assert sorted(ANSWERS) == sorted([*NUMBERS, *EXPRESSIONS])


@pytest.mark.parametrize("id_", NUMBERS)
def test_numbers_are_what_a_second_way_gives(id_: str) -> None:
    value = Fraction(NUMBERS[id_])
    spelled = f"{value.numerator}/{value.denominator}" if value.denominator > 1 else str(value)
    [verdict] = judge_answers([spelled], [f"\\boxed{{{ANSWERS[id_]}}}"])
    assert verdict.success, (spelled, ANSWERS[id_])


@pytest.mark.parametrize("id_", EXPRESSIONS)
def test_expressions_are_what_sympy_gives(id_: str) -> None:
    found, by_hand, answer = EXPRESSIONS[id_]
    assert found == by_hand
    assert ANSWERS[id_] == answer


def test_there_are_enough_of_each_kind_and_no_two_are_alike() -> None:
    for subject, train, evaluation in (("gsm8k", 24, 12), ("math", 24, 12)):
        assert len(load_problems("project", "train", subject)) == train
        assert len(load_problems("project", "eval", subject)) == evaluation
    assert len({row["question"] for row in ROWS}) == len({row["id"] for row in ROWS}) == len(ROWS) == 72


def _spellings(answer: str) -> list[str]:
    spelled = [
        f"\\boxed{{{answer}}}",
        f"So we get $\\boxed{{{answer}}}$.",
        f"\\[\\fbox{{ {answer} }}\\]",
        f"#### {answer}",
        f"Some words.\nA: {answer}",
        f"**Final Answer:** ${answer}$.",
    ]
    if answer.lstrip("-").isdigit():
        number = int(answer)
        spelled += [
            f"\\boxed{{{number:,}}}",
            f"\\boxed{{{number:+}}}",
            f"\\boxed{{{number}.00}}",
            f"\\boxed{{{number}\\text{{ pieces}}}}",
            f"#### {number:,} pieces.",
            f"A: ${number}",
            f"\\boxed{{x = {number}}}",
            f"\\boxed{{{str(number).replace('-', '−')}}}",
            f"\\boxed{{{number * 10}e-1}}",
        ]
    return spelled


@pytest.mark.parametrize("task", TASKS, ids=["gsm8k", "math"])
@pytest.mark.parametrize("split", ["train", "eval"])
def test_golds_are_accepted_in_every_spelling(task: GSM8K | Math, split: str) -> None:
    for example in task.examples(split, task.size(split) or 0):
        spelled = [*_spellings(example.truth["answer"]), task.demonstration(example)]
        verdicts = task.score_many([example.truth] * len(spelled), spelled)
        assert [text for text, verdict in zip(spelled, verdicts, strict=True) if not verdict.success] == []


NEIGHBOURS = 3


def _others(task: GSM8K | Math, reach: int) -> list[tuple[dict[str, str], str]]:
    """The truth of each problem with the demonstrations of the `reach` problems that follow it."""
    examples = [
        example for split in ("train", "eval") for example in task.examples(split, task.size(split) or 0)
    ]
    pairs = [
        (example, examples[(index + step) % len(examples)])
        for index, example in enumerate(examples)
        for step in range(1, reach + 1)
    ]
    return [
        (dict(one.truth), task.demonstration(other))
        for one, other in pairs
        if one.truth["answer"] != other.truth["answer"]
    ]


@pytest.mark.parametrize("task", TASKS, ids=["gsm8k", "math"])
@pytest.mark.parametrize("reach", [NEIGHBOURS, pytest.param(35, marks=pytest.mark.slow)])
def test_no_problem_accepts_the_answer_to_another(task: GSM8K | Math, reach: int) -> None:
    pairs = _others(task, reach)
    assert len(pairs) > 33 * reach
    verdicts = task.score_many([truth for truth, _ in pairs], [text for _, text in pairs])
    assert [pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.success] == []
    assert all(verdict.error is None for verdict in verdicts)
