"""The programming problems of the code task: what is asked, what must come out, and proof that it can be done.

Every problem is posed in all languages alike. Its statement says what happens in every case that its tests hold,
overflow included, so that a program which follows the statement passes in any language. The problems stand in
`data/problems.toml`, whose head describes the format; `maxrl.tasks.code.harness` turns them into programs.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from re import compile as regex
from typing import Literal, TypeGuard, cast, get_args

from maxrl.errors import InputError, unknown_name

Language = Literal["rust", "python", "c"]
Level = Literal["easy", "medium", "hard"]
Value = int | bool | str | tuple[int, ...] | tuple[str, ...]

LANGUAGES: tuple[Language, ...] = get_args(Language)
LEVELS: tuple[Level, ...] = get_args(Level)
PARAMETER_TYPES = ("int", "bool", "str", "list[int]", "list[str]")
"""What a function may take: signed 64-bit integers, truth values, printable ASCII text, and lists."""
RETURN_TYPES = ("int", "bool", "str", "list[int]")
"""What it may return. A list of texts would need one more convention in C than it is worth."""
ROOM = 1024
"""The most numbers in a list; a text has fewer characters, so that with C's final NUL it fits as many bytes."""

_FEWEST_CASES = 8
_KEYS = {"level", "statement", "parameters", "returns", "cases", "solutions", "mistakes"}
_NAME = regex(r"[a-z][a-z0-9_]*")
_PRINTABLE = regex(r"[ -~]*")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One test of a problem: the arguments of a call and the value that it must return."""

    arguments: tuple[Value, ...]
    expected: Value


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One programming problem, the same in every language."""

    id: str
    """Names the problem; also the name of the function."""
    level: Level
    statement: str
    """What the function must do, in prose that no language is preferred in."""
    function: str
    parameters: tuple[tuple[str, str], ...]
    """Name and type (one of `PARAMETER_TYPES`) of each."""
    returns: str
    """One of `RETURN_TYPES`."""
    tests: tuple[Case, ...]
    """Hidden from the model, and the expected values from its program."""
    solutions: Mapping[Language, str]
    """A function that passes every test, per language."""
    wrong: Mapping[Language, str]
    """The same with one plausible mistake: it compiles, and fails some test."""


@cache
def load_problems() -> tuple[Problem, ...]:
    """The problems that come with the package, easy ones first, checked as `parse_problems` does."""
    data = files("maxrl.tasks.code").joinpath("data/problems.toml")
    return parse_problems(data.read_text(encoding="utf-8"))


def parse_problems(text: str) -> tuple[Problem, ...]:
    """Problems from TOML text, in the order of the file.

    Checked: keys, names and types; at least eight cases whose values have the declared types, with at least two
    different results (else a constant would pass); a solution in every language, in which the text that a mistake
    replaces occurs exactly once. That solutions pass and mistakes fail is for the tests to show: it takes compilers.

    Raises:
        InputError: on anything else; the message names the problem.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the problems are not valid TOML: {error}") from error
    return tuple(_problem(id_, table) for id_, table in tables.items())


def check_language(language: str) -> None:
    """Refuse a language that the problems are not posed in.

    Raises:
        InputError: with the nearest name.
    """
    if language not in LANGUAGES:
        raise unknown_name("language", language, LANGUAGES)


def _problem(id_: str, table: object) -> Problem:
    if not isinstance(table, dict):
        raise InputError(f"'{id_}' is no problem: a table is needed, got {table!r}")
    given = cast("dict[str, object]", table)
    if set(given) != _KEYS:
        raise InputError(f"problem '{id_}' must have the keys {sorted(_KEYS)}, got {sorted(given)}")
    parameters = _parameters(id_, given["parameters"])
    level, returns, statement = given["level"], given["returns"], given["statement"]
    if level not in LEVELS:
        raise unknown_name(f"level of problem '{id_}'", str(level), LEVELS)
    if returns not in RETURN_TYPES:
        raise unknown_name(f"return type of problem '{id_}'", str(returns), RETURN_TYPES)
    if not isinstance(statement, str) or not statement.strip():
        raise InputError(f"problem '{id_}': statement must be text, got {statement!r}")
    solutions = _solutions(id_, given["solutions"])
    return Problem(
        id=id_,
        level=level,
        # A line break in the file is for the reader of the file; a blank line is a paragraph.
        statement="\n\n".join(" ".join(part.split()) for part in statement.strip().split("\n\n")),
        function=_name(id_, id_),
        parameters=parameters,
        returns=cast(str, returns),
        tests=_cases(id_, [type_ for _, type_ in parameters], cast(str, returns), given["cases"]),
        solutions=solutions,
        wrong=_wrong(id_, solutions, given["mistakes"]),
    )


def _name(id_: str, name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"problem '{id_}': a name is of lower-case letters, digits and underscores, got {name!r}"
        )
    return name


def _parameters(id_: str, given: object) -> tuple[tuple[str, str], ...]:
    parameters: list[tuple[str, str]] = []
    for pair in _items(given):
        match _items(pair):
            case [name, str(type_)] if type_ in PARAMETER_TYPES:
                parameters.append((_name(id_, name), type_))
            case _:
                raise InputError(
                    f"problem '{id_}': a parameter is [name, type] with a type of {PARAMETER_TYPES}, got {pair!r}"
                )
    if not parameters or len({name for name, _ in parameters}) < len(parameters):
        raise InputError(f"problem '{id_}' needs parameters, each with its own name; got {given!r}")
    return tuple(parameters)


def _cases(id_: str, types: Sequence[str], returns: str, given: object) -> tuple[Case, ...]:
    cases: list[Case] = []
    for pair in _items(given):
        match _items(pair):
            case [arguments, expected] if _fit((*types, returns), [*_items(arguments), expected]):
                cases.append(Case(arguments=tuple(map(_value, _items(arguments))), expected=_value(expected)))
            case _:
                raise InputError(
                    f"problem '{id_}': a case is [[arguments], result] of the types {(*types, returns)}, with "
                    f"64-bit integers and lists and printable texts below {ROOM} long; got {pair!r}"
                )
    if len(cases) < _FEWEST_CASES or len({case.expected for case in cases}) < 2:
        raise InputError(f"problem '{id_}' needs at least {_FEWEST_CASES} cases, and results that differ")
    return tuple(cases)


def _items(given: object) -> Sequence[object]:
    """The items of a list; none of anything else, which no caller accepts."""
    return given if _is_list(given) else ()


def _is_list(given: object) -> TypeGuard[list[object]]:
    return isinstance(given, list)


def _fit(types: Sequence[str], values: Sequence[object]) -> bool:
    return len(types) == len(values) and all(map(_fits, types, values))


def _fits(type_: str, value: object) -> bool:
    match type_, value:
        case ("bool", bool()):
            return True
        case ("int", int()):
            return not isinstance(value, bool) and -(2**63) <= value < 2**63
        case ("str", str()):
            return len(value) < ROOM and _PRINTABLE.fullmatch(value) is not None
        case ("list[int]" | "list[str]", _) if _is_list(value):
            return len(value) <= ROOM and all(_fits(type_[5:-1], item) for item in value)
        case _:
            return False


def _value(given: object) -> Value:
    return cast(Value, tuple(given) if _is_list(given) else given)


def _table(id_: str, what: str, given: object) -> dict[Language, object]:
    table = cast("dict[Language, object]", given) if isinstance(given, dict) else {}
    if set(table) != set(LANGUAGES):
        raise InputError(f"problem '{id_}': {what} must be given for {LANGUAGES}, got {sorted(table)}")
    return table


def _solutions(id_: str, given: object) -> dict[Language, str]:
    solutions: dict[Language, str] = {}
    for language, code in _table(id_, "solutions", given).items():
        if not isinstance(code, str):
            raise InputError(f"problem '{id_}': the solution in {language} must be text, got {code!r}")
        solutions[language] = code
    return solutions


def _wrong(id_: str, solutions: Mapping[Language, str], given: object) -> dict[Language, str]:
    wrong: dict[Language, str] = {}
    for language, change in _table(id_, "mistakes", given).items():
        match _items(change):
            case [str(right), str(mistaken)] if solutions[language].count(right) == 1 and right != mistaken:
                wrong[language] = solutions[language].replace(right, mistaken)
            case _:
                raise InputError(
                    f"problem '{id_}': the mistake in {language} must be [text that occurs once in the solution, "
                    f"what stands there instead], got {change!r}"
                )
    return wrong
