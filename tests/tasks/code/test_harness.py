"""The harness: signatures, exact results, and completions that try to pass without solving the problem."""

import ast
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tasks.code.programs import DOUBLE, ECHO, EVEN, TOOL, Parameters, build, output, problem_of, right

from maxrl.errors import InputError
from maxrl.tasks.code.harness import END, case_input, harness, program, read_results, signature
from maxrl.tasks.code.problems import LANGUAGES, ROOM, Case, Language, Problem, Value, load_problems

EVERYTHING: Parameters = (
    ("flag", "bool"),
    ("n", "int"),
    ("text", "str"),
    ("xs", "list[int]"),
    ("words", "list[str]"),
)


# ---------------------------------------------------------------------------------------------------------- signatures


def test_signature_in_rust() -> None:
    parameters = "flag: bool, n: i64, text: &str, xs: &[i64], words: &[&str]"
    for returns, type_ in {"int": "i64", "bool": "bool", "str": "String", "list[int]": "Vec<i64>"}.items():
        assert (
            signature(problem_of(EVERYTHING, returns, ()), "rust") == f"pub fn solve({parameters}) -> {type_}"
        )


def test_signature_in_python() -> None:
    problem = problem_of(EVERYTHING, "list[int]", ())
    expected = "def solve(flag: bool, n: int, text: str, xs: list[int], words: list[str]) -> list[int]:"
    assert signature(problem, "python") == expected


def test_signature_in_c_says_how_lists_and_texts_are_passed() -> None:
    assert signature(problem_of(EVERYTHING, "list[int]", ()), "c") == (
        "#include <stdbool.h>\n"
        "#include <stddef.h>\n"
        "\n"
        "/*\n"
        " * text ends in a NUL.\n"
        " * xs points to xs_len integers.\n"
        " * words points to words_len texts, each with a final NUL.\n"
        " * Writes the result to out, which has room for 1024 integers, and returns how many they are.\n"
        " */\n"
        "size_t solve(bool flag, long long n, const char *text, const long long *xs, size_t xs_len, "
        "const char *const *words, size_t words_len, long long *out)"
    )


def test_signature_in_c_has_only_what_the_types_need() -> None:
    assert signature(DOUBLE, "c") == "long long solve(long long n)"
    assert signature(EVEN, "c") == "#include <stdbool.h>\n\nbool solve(long long n)"
    assert signature(ECHO, "c") == (
        "/*\n"
        " * text ends in a NUL.\n"
        " * Writes the result and a final NUL to out, which has room for 1024 bytes.\n"
        " */\n"
        "void solve(const char *text, char *out)"
    )


@pytest.mark.parametrize(
    "make", [lambda p, x: signature(p, x), lambda p, x: program(p, x, ""), lambda p, x: harness(p, x)]
)
def test_unknown_languages_are_refused(make: Callable[[Problem, str], str]) -> None:
    with pytest.raises(InputError, match="unknown language 'pyton'; did you mean 'python'"):
        make(DOUBLE, "pyton")


# ------------------------------------------------------------------------------------------------- input and results


def test_input_holds_every_argument_on_lines_of_its_own() -> None:
    arguments = (True, -3, " a b ", (7, -8), ("", "x"))
    problem = problem_of(EVERYTHING, "int", (Case(arguments=arguments, expected=0),) * 2)
    one = b"true\n-3\n a b \n2\n7\n-8\n2\n\nx\n"
    assert case_input(problem) == b"2\n" + one + one
    assert (
        case_input(problem_of((("flag", "bool"),), "int", (Case(arguments=(False,), expected=0),)))
        == b"1\nfalse\n"
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_expected_values_enter_neither_program_nor_input(language: Language) -> None:
    for problem in load_problems():
        none = replace(problem, tests=tuple(replace(case, expected="secret") for case in problem.tests))
        code = problem.solutions[language]
        assert program(none, language, code) == program(problem, language, code)
        assert harness(none, language) == harness(problem, language)
        assert case_input(none) == case_input(problem)


def test_the_harness_in_c_depends_on_the_types_alone() -> None:
    other = replace(DOUBLE, function="kilo", parameters=(("count", "int"),), tests=EVEN.tests)
    assert harness(other, "c") == harness(DOUBLE, "c")
    assert len({harness(problem, "c") for problem in (DOUBLE, EVEN, ECHO)}) == 3
    assert harness(DOUBLE, "rust") == harness(DOUBLE, "python") == ""
    for text in (harness(ECHO, "c"), program(ECHO, "c", "")):
        assert "@" not in text  # every word of the templates is filled in


CODES = st.text(st.characters(exclude_categories=())) | st.lists(
    st.sampled_from(
        [
            "@CODE@",
            "@END@",
            "@FUNCTION@",
            "@OPEN@",
            "\udc80",
            "\0",
            '"',
            "'",
            "\\",
            "\n",
            "\r",
            "{",
            "}",
            "fn main",
        ]
    )
).map("".join)


@pytest.mark.parametrize("language", LANGUAGES)
@given(code=CODES)
@settings(max_examples=200, deadline=1000, derandomize=True, database=None)
def test_any_code_gives_a_program_with_the_code_as_it_is(language: Language, code: str) -> None:
    text = program(DOUBLE, language, code)
    text.encode("utf-8", "replace")
    if language == "python":
        # Whatever the code holds, the program around it is Python, with the code as one of its texts.
        [first] = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)][:1]
        assert ast.literal_eval(first.value) == code
    else:
        marks = ("MARK", "MARK fn main")  # Rust code with a `main` stands in a module
        assert text in [code.join(program(DOUBLE, language, mark).split(mark)) for mark in marks]


def _whole(problem: Problem, *lines: str) -> bytes:
    assert len(lines) == len(problem.tests)
    return "\n".join(["", *lines, END, ""]).encode()


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (0, "0"),
        (-(2**63), "-9223372036854775808"),
        (True, "true"),
        (False, "false"),
        ("", '""'),
        ("?", '"?"'),
        ('say "hi"', '"say "hi""'),
        ("back\\slash", '"back\\x5cslash"'),
        ((), "[]"),
        ((1,), "[1]"),
        ((1, -2, 3), "[1,-2,3]"),
    ],
)
def test_a_result_has_one_form(value: Value, line: str) -> None:
    problem = problem_of((("n", "int"),), "int", (Case(arguments=(0,), expected=value),))
    assert read_results(problem, _whole(problem, line)) == 1
    for other in (line + " ", " " + line, line.upper() + ".", "+" + line, line[:-1], "?", line + "\r"):
        assert read_results(problem, _whole(problem, other)) == 0


def test_results_are_counted() -> None:
    assert read_results(DOUBLE, _whole(DOUBLE, "2", "0", "-8", "100")) == 4
    assert read_results(DOUBLE, _whole(DOUBLE, "2", "0", "8", "100")) == 3
    assert read_results(DOUBLE, _whole(DOUBLE, "", "", "", "")) == 0
    assert read_results(DOUBLE, _whole(DOUBLE, "0", "2", "100", "-8")) == 0


WHOLE = _whole(DOUBLE, "2", "0", "-8", "100")


@given(before=st.binary(max_size=200))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_whatever_comes_before_the_results_is_ignored(before: bytes) -> None:
    assert read_results(DOUBLE, before + WHOLE) == 4


@given(after=st.binary(min_size=1, max_size=50))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_nothing_may_come_after_the_results(after: bytes) -> None:
    assert read_results(DOUBLE, WHOLE + after) == 0


@pytest.mark.parametrize("cut", range(1, len(WHOLE) + 1))
def test_results_that_are_cut_off_are_worth_nothing(cut: int) -> None:
    assert read_results(DOUBLE, WHOLE[:-cut]) == 0
    assert read_results(DOUBLE, WHOLE[cut:]) == 0


@given(
    stdout=st.one_of(
        st.binary(), st.lists(st.sampled_from([*WHOLE.splitlines(True), b"\n", b"\0"])).map(b"".join)
    )
)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_no_output_makes_reading_raise(stdout: bytes) -> None:
    lines = stdout.split(b"\n")
    whole = len(lines) > 6 and lines[-1] == b"" and lines[-2] == END.encode()
    count = (
        sum(x == y for x, y in zip(lines[-6:-2], [b"2", b"0", b"-8", b"100"], strict=False)) if whole else 0
    )
    assert read_results(DOUBLE, stdout) == count


# ------------------------------------------------------------------------------------------------------ exact results

# Each gives back what it is given, so that what went in must come out. Lists of texts come back joined.
IDENTITIES: dict[str, tuple[Parameters, str, dict[Language, str]]] = {
    "integers": (
        (("x", "int"),),
        "int",
        {
            "rust": "fn solve(x: i64) -> i64 { x }",
            "python": "def solve(x): return x",
            "c": "long long solve(long long x) { return x; }",
        },
    ),
    "truths": (
        (("x", "bool"),),
        "bool",
        {
            "rust": "fn solve(x: bool) -> bool { x }",
            "python": "def solve(x): return x",
            "c": "bool solve(bool x) { return x; }",
        },
    ),
    "texts": (
        (("x", "str"),),
        "str",
        {
            "rust": "fn solve(x: &str) -> String { x.to_string() }",
            "python": "def solve(x): return x",
            "c": "#include <string.h>\nvoid solve(const char *x, char *out) { strcpy(out, x); }",
        },
    ),
    "lists": (
        (("x", "list[int]"),),
        "list[int]",
        {
            "rust": "fn solve(x: &[i64]) -> Vec<i64> { x.to_vec() }",
            "python": "def solve(x): return x",
            "c": "#include <string.h>\nsize_t solve(const long long *x, size_t x_len, long long *out)\n"
            "{ memcpy(out, x, x_len * sizeof *x); return x_len; }",
        },
    ),
    "joined": (
        (("x", "list[str]"), ("y", "str")),
        "str",
        {
            "rust": "fn solve(x: &[&str], y: &str) -> String { x.join(y) }",
            "python": "def solve(x, y): return y.join(x)",
            "c": "#include <string.h>\nvoid solve(const char *const *x, size_t x_len, const char *y, char *out)\n"
            "{ *out = 0; for (size_t i = 0; i < x_len; i++) { if (i) strcat(out, y); strcat(out, x[i]); } }",
        },
    ),
}


def _text(rng: random.Random, most: int) -> str:
    return "".join(chr(rng.randint(32, 126)) for _ in range(rng.randint(0, most)))


def _integers(rng: random.Random, most: int) -> tuple[int, ...]:
    return tuple(rng.randint(-(2**63), 2**63 - 1) >> rng.randint(0, 63) for _ in range(rng.randint(0, most)))


def _identity_cases(kind: str) -> tuple[Case, ...]:
    rng = random.Random(kind)
    if kind == "joined":
        words = [tuple(_text(rng, 9) for _ in range(rng.randint(0, 6))) for _ in range(200)]
        pairs = [(word, _text(rng, 3)) for word in words]
        return tuple(Case(arguments=pair, expected=pair[1].join(pair[0])) for pair in pairs)
    values: dict[str, tuple[Value, ...]] = {
        "integers": (0, -1, 2**63 - 1, -(2**63), *_integers(rng, 900)),
        "truths": (True, False),
        "texts": (
            "",
            " ",
            '"',
            "\\",
            "\\x5c",
            "?",
            END,
            "~" * (ROOM - 1),
            *(_text(rng, 30) for _ in range(200)),
        ),
        "lists": ((), (0,), (7,) * ROOM, *(_integers(rng, 9) for _ in range(200))),
    }
    return tuple(Case(arguments=(value,), expected=value) for value in values[kind])


@pytest.mark.parametrize("language", LANGUAGES)
def test_values_go_in_and_come_out_unchanged(language: Language, tmp_path: Path) -> None:
    problems = {
        kind: problem_of(parameters, returns, _identity_cases(kind))
        for kind, (parameters, returns, _) in IDENTITIES.items()
    }
    codes = {kind: (problems[kind], IDENTITIES[kind][2][language]) for kind in problems}
    programs, said = build(language, TOOL[language], codes, tmp_path)
    assert said == ""
    counts = {kind: right(programs[kind], problem) for kind, problem in problems.items()}
    assert counts == {kind: len(problem.tests) for kind, problem in problems.items()}


def test_programs_print_their_results_last(tmp_path: Path) -> None:
    for language in LANGUAGES:
        code = {
            "rust": "fn solve(n: i64) -> i64 { 2 * n }",
            "python": "def solve(n): return 2 * n",
            "c": "long long solve(long long n) { return 2 * n; }",
        }[language]
        folder = tmp_path / language
        folder.mkdir()
        programs, _ = build(language, TOOL[language], {"double": (DOUBLE, code)}, folder)
        assert output(programs["double"], DOUBLE) == WHOLE
