"""Easy programming problems without end, for models too small for real ones: families with random numbers and names.

Each family is one idea (add a constant, the larger of two, count what is above a threshold) with a solution of one short
line per language. Function names are two syllables and mean nothing, so that a model must read the prompt.
"""

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from maxrl.tasks.code.problems import LANGUAGES, Case, Language, Problem, Value
from maxrl.tasks.streams import Split, random_stream

# No pair of these syllables is a word of any of the languages, or a name of C's headers, but for `goto`.
_SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aiou"]
_NAMES = [first + second for first in _SYLLABLES for second in _SYLLABLES if first + second != "goto"]
# Without those that the solutions use themselves.
_PARAMETERS = "abcdkmnpqtuvwxyz"
_CONSTANTS = range(2, 100)

_ARGUMENTS = range(-1000, 1001)

_EVAL_SHARE = 8
"""One problem in so many is for evaluation alone."""
_RANDOM_CASES = 6

_INTEGERS: Mapping[Language, str] = {"rust": "{0}: i64", "python": "{0}", "c": "long long {0}"}
_LISTS: Mapping[Language, str] = {
    "rust": "{0}: &[i64]",
    "python": "{0}",
    "c": "const long long *{0}, size_t {0}_len",
}
_RESULTS: Mapping[str, Mapping[Language, str]] = {
    "int": {"rust": "i64", "python": "", "c": "long long"},
    "bool": {"rust": "bool", "python": "", "c": "bool"},
}
_SHELLS: Mapping[Language, str] = {
    "rust": "fn {name}({parameters}) -> {type} {{ {body} }}",
    "python": "def {name}({parameters}): {body}",
    "c": "{type} {name}({parameters}) {{ {body} }}",
}


@dataclass(frozen=True, kw_only=True)
class Family:
    """One idea. In its texts, {x} and {y} stand for the parameters, {c} and {d} for the constants; c is below d."""

    short: str
    """The compact prompt's words for it."""
    statement: str
    function: Callable[[Any, Any, Any], Value]
    """What is to be computed, from arguments and constants in a row; what is left of three is 0."""
    right: Mapping[Language, str]
    """The body of a solution."""
    wrong: Mapping[Language, str]
    """The body of one with a mistake."""
    arguments: int = 1
    of_list: bool = False
    constants: int = 1
    returns: str = "int"


def _bodies(rust: str, python: str = "", c: str = "") -> Mapping[Language, str]:
    """Bodies of one expression that every language writes alike, or of one for each; for C a body."""
    return {"rust": rust, "python": f"return {python or rust}", "c": c or f"return {rust};"}


def _over_list(rust: str, python: str, c: str) -> Mapping[Language, str]:
    """The same over the items of a list; for C the body of the loop."""
    loop = "long long s = 0; for (size_t i = 0; i < {x}_len; i++) "
    return _bodies(rust, python, f"{loop}{c}; return s;")


FAMILIES: Mapping[str, Family] = {
    "add": Family(
        short="add {c}",
        statement="Return {x} plus {c}.",
        function=lambda x, c, _: x + c,
        right=_bodies("{x} + {c}"),
        wrong=_bodies("{x} - {c}"),
    ),
    "subtract": Family(
        short="minus {c}",
        statement="Return {x} minus {c}.",
        function=lambda x, c, _: x - c,
        right=_bodies("{x} - {c}"),
        wrong=_bodies("{c} - {x}"),
    ),
    "multiply": Family(
        short="times {c}",
        statement="Return {x} times {c}.",
        function=lambda x, c, _: x * c,
        right=_bodies("{x} * {c}"),
        wrong=_bodies("{x} + {c}"),
    ),
    "linear": Family(
        short="times {c} add {d}",
        statement="Return {x} times {c}, plus {d}.",
        function=lambda x, c, d: x * c + d,
        right=_bodies("{x} * {c} + {d}"),
        wrong=_bodies("{x} * {d} + {c}"),
        constants=2,
    ),
    "square": Family(
        short="square add {c}",
        statement="Return the square of {x}, plus {c}.",
        function=lambda x, c, _: x * x + c,
        right=_bodies("{x} * {x} + {c}"),
        wrong=_bodies("{x} + {x} + {c}"),
    ),
    "at_most": Family(
        short="at most {c}",
        statement="Return {x}, or {c} where {x} is larger than that.",
        function=lambda x, y, _: min(x, y),
        right=_bodies("{x}.min({c})", "min({x}, {c})", "return {x} < {c} ? {x} : {c};"),
        wrong=_bodies("{x}.max({c})", "max({x}, {c})", "return {x} > {c} ? {x} : {c};"),
    ),
    "multiple": Family(
        short="multiple of {c}",
        statement="Return whether {x} is a multiple of {c}; 0 is one.",
        function=lambda x, c, _: x % c == 0,
        right=_bodies("{x} % {c} == 0"),
        wrong=_bodies("{x} % {c} == 1"),
        returns="bool",
    ),
    "between": Family(
        short="from {c} to {d}",
        statement="Return whether {x} is at least {c} and at most {d}.",
        function=lambda x, c, d: c <= x <= d,
        right=_bodies("{x} >= {c} && {x} <= {d}", "{x} >= {c} and {x} <= {d}"),
        wrong=_bodies("{x} >= {c} && {x} < {d}", "{x} >= {c} and {x} < {d}"),
        constants=2,
        returns="bool",
    ),
    "larger": Family(
        short="max",
        statement="Return the larger of {x} and {y}.",
        function=lambda x, y, _: max(x, y),
        right=_bodies("{x}.max({y})", "max({x}, {y})", "return {x} > {y} ? {x} : {y};"),
        wrong=_bodies("{x}.min({y})", "min({x}, {y})", "return {x} < {y} ? {x} : {y};"),
        arguments=2,
        constants=0,
    ),
    "smaller": Family(
        short="min",
        statement="Return the smaller of {x} and {y}.",
        function=lambda x, y, _: min(x, y),
        right=_bodies("{x}.min({y})", "min({x}, {y})", "return {x} < {y} ? {x} : {y};"),
        wrong=_bodies("{x}.max({y})", "max({x}, {y})", "return {x} > {y} ? {x} : {y};"),
        arguments=2,
        constants=0,
    ),
    "sum": Family(
        short="sum",
        statement="Return the sum of the integers in {x}, which is 0 where there are none.",
        function=lambda xs, _c, _d: sum(xs),
        right=_over_list("{x}.iter().sum()", "sum({x})", "s += {x}[i]"),
        wrong=_over_list("{x}.iter().skip(1).sum()", "sum({x}[1:])", "s += i > 0 ? {x}[i] : 0"),
        of_list=True,
        constants=0,
    ),
    "count_above": Family(
        short="count above {c}",
        statement="Return how many of the integers in {x} are larger than {c}.",
        function=lambda xs, c, _: sum(x > c for x in xs),
        right=_over_list(
            "{x}.iter().filter(|e| **e > {c}).count() as i64",
            "sum(e > {c} for e in {x})",
            "s += {x}[i] > {c}",
        ),
        wrong=_over_list(
            "{x}.iter().filter(|e| **e >= {c}).count() as i64",
            "sum(e >= {c} for e in {x})",
            "s += {x}[i] >= {c}",
        ),
        of_list=True,
    ),
    "sum_above": Family(
        short="sum above {c}",
        statement="Return the sum of those integers in {x} that are larger than {c}.",
        function=lambda xs, c, _: sum(x for x in xs if x > c),
        right=_over_list(
            "{x}.iter().filter(|e| **e > {c}).sum()",
            "sum(e for e in {x} if e > {c})",
            "if ({x}[i] > {c}) s += {x}[i]",
        ),
        wrong=_over_list(
            "{x}.iter().filter(|e| **e < {c}).sum()",
            "sum(e for e in {x} if e < {c})",
            "if ({x}[i] < {c}) s += {x}[i]",
        ),
        of_list=True,
    ),
}
"""Every family by name."""


def draw_template(rng: random.Random, split: Split) -> dict[str, Any]:
    """A problem of a split, of JSON types: `template`, `name`, `parameters` and `constants`.

    Which split a problem belongs to follows from a hash of it, so that none is ever in both, whatever the seeds. There
    are about 24 million; the fewest of one family (`sum`) are 50 thousand.
    """
    while True:
        name, family = rng.choice(list(FAMILIES.items()))
        drawn = {
            "template": name,
            "name": rng.choice(_NAMES),
            "parameters": rng.sample(_PARAMETERS, family.arguments),
            "constants": sorted(rng.sample(_CONSTANTS, family.constants)),
        }
        for_eval = hashlib.sha256(json.dumps(drawn).encode()).digest()[0] % _EVAL_SHARE == 0
        if for_eval is (split == "eval"):
            return drawn


def template_problem(drawn: Mapping[str, Any]) -> Problem | str:
    """The problem that was drawn, or a sentence that says why it is none."""
    family, name = FAMILIES.get(str(drawn.get("template"))), drawn.get("name")
    if family is None:
        return f"truth['template'] must be one of {', '.join(FAMILIES)}"
    if name not in _NAMES:
        return "truth['name'] must be a name that templates draw"
    parameters, constants = _items(drawn.get("parameters")), _items(drawn.get("constants"))
    letters = [
        item for item in parameters if isinstance(item, str) and len(item) == 1 and item in _PARAMETERS
    ]
    if not family.arguments == len(set(letters)) == len(parameters):
        return f"truth['parameters'] must be {family.arguments} different letters of {_PARAMETERS}"
    numbers = [item for item in constants if type(item) is int and item in _CONSTANTS]
    if not family.constants == len(numbers) == len(constants) or numbers != sorted(set(numbers)):
        return f"truth['constants'] must be {family.constants} whole numbers from 2 to 99, the smaller first"
    return _problem(str(drawn["template"]), cast(str, name), tuple(letters), tuple(numbers))


def compact_prompt(drawn: Mapping[str, Any]) -> str:
    """The problem in as few characters as can be, as in `dabo(n): add 7`."""
    short = FAMILIES[drawn["template"]].short.format(**_words(drawn["parameters"], drawn["constants"]))
    return f"{drawn['name']}({', '.join(drawn['parameters'])}): {short}"


def _items(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, list | tuple) else ()


def _words(parameters: Sequence[str], constants: Sequence[int]) -> dict[str, Any]:
    return dict(zip("xy", parameters, strict=False)) | dict(zip("cd", constants, strict=False))


@lru_cache(maxsize=4096)  # a group's completions are judged one by one
def _problem(template: str, name: str, parameters: tuple[str, ...], constants: tuple[int, ...]) -> Problem:
    family = FAMILIES[template]
    type_ = "list[int]" if family.of_list else "int"
    words = _words(parameters, constants)

    def case(arguments: tuple[Value, ...]) -> Case:
        x, y, z, *_ = *arguments, *constants, 0, 0
        return Case(arguments=arguments, expected=family.function(x, y, z))

    def code(bodies: Mapping[Language, str], language: Language) -> str:
        one = _LISTS[language] if family.of_list else _INTEGERS[language]
        return _SHELLS[language].format(
            name=name,
            parameters=", ".join(one.format(parameter) for parameter in parameters),
            type=_RESULTS[family.returns][language],
            body=bodies[language].format(**words),
        )

    return Problem(
        id=f"{template} {name}({', '.join(parameters)}) {' '.join(map(str, constants))}".strip(),
        level="easy",
        statement=f"{family.statement.format(**words)} All numbers are small: nothing overflows 64 bits.",
        function=name,
        parameters=tuple((parameter, type_) for parameter in parameters),
        returns=family.returns,
        tests=tuple(map(case, _arguments(family, constants))),
        solutions={language: code(family.right, language) for language in LANGUAGES},
        wrong={language: code(family.wrong, language) for language in LANGUAGES},
    )


def _arguments(family: Family, constants: Sequence[int]) -> list[tuple[Value, ...]]:
    """Arguments of the hidden tests: on, next to and far from the constants and multiples of them, and some at random."""
    rng = random_stream("code template", *constants)
    near = [constant + step for constant in constants for step in (-1, 0, 1)]
    # Multiples and divisors, or `n == 0 || n == 99` would pass for "a multiple of 99", and so would "of 33".
    near += [constant * factor + step for constant in constants for factor in (2, 5, 7) for step in (0, 1)]
    near += [part for constant in constants for part in range(2, constant) if constant % part == 0]
    numbers = [0, 1, -1, *near, *(-number for number in near), *rng.sample(_ARGUMENTS, _RANDOM_CASES)]
    if family.arguments == 2:
        return [*zip(numbers, reversed(numbers), strict=True), (5, 5), (-7, -3), (-3, -7)]
    if not family.of_list:
        return [(number,) for number in numbers]
    lists = [(), *((number,) for number in numbers[:6])]
    lists += [(max(numbers),) * 2, (min(numbers),) * 2]  # every item counts, not every value
    lists += [tuple(rng.choices(numbers, k=length)) for length in range(2, 2 + _RANDOM_CASES)]
    return [(items,) for items in lists]
