"""Answers of mathematics: forms, numbers, any text at all, and the time that reading takes."""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.tasks.math.answers import (
    LONGEST_ANSWER,
    NO_ANSWER,
    NOT_A_NUMBER,
    REASONS,
    SEVERAL,
    WRONG,
    Comparison,
    extract_answer,
    gold_answer,
    read_gold,
    settle,
)
from maxrl.tasks.math.verdicts import NO_RIGHT_ANSWER, judge_answers

RIGHT = ""
FUZZ = settings(derandomize=True, database=None, deadline=1000, max_examples=200)


@pytest.mark.parametrize(
    ("text", "any_", "boxed", "hash_"),
    [
        (r"\boxed{1} #### 2", "1", "1", "2"),
        ("#### 2", "2", None, "2"),
        ("A: 3", "3", None, None),
        (r"\boxed{1", "", "", None),
        ("nothing", None, None, None),
    ],
)
def test_forms_can_be_asked_for(text: str, any_: str | None, boxed: str | None, hash_: str | None) -> None:
    assert extract_answer(text) == extract_answer(text, "any") == any_
    assert extract_answer(text, "boxed") == boxed
    assert extract_answer(text, "hash") == hash_


@pytest.mark.parametrize(
    ("column", "gold"),
    [
        ("She has 3 + 4 = <<3+4=7>>7.\n#### 7", "7"),
        ("#### 1,234\n", "1,234"),
        (r"So it is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (" 18 ", "18"),
        (r"\boxed{}", r"\boxed{}"),
        ("", ""),
    ],
)
def test_golds_are_taken_from_answer_columns(column: str, gold: str) -> None:
    assert gold_answer(column) == gold


def test_golds_that_are_numbers_are_read() -> None:
    number = read_gold(r"-1\frac{1}{4}\text{ cm}")
    assert number is not None
    assert (number.value, number.scale, number.places) == (Fraction(-5, 4), 1, 0)
    assert read_gold(r"\pi") is None


@given(st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=1000), st.booleans())
@FUZZ
def test_every_fraction_is_itself_and_not_its_neighbour(value: Fraction, latex: bool) -> None:
    def spelled(number: Fraction) -> str:
        if number.denominator == 1 or not latex:
            return str(number)
        return f"{'-' * (number < 0)}\\frac{{{abs(number.numerator)}}}{{{number.denominator}}}"

    assert settle(str(value), f"\\boxed{{{spelled(value)}}}") == RIGHT
    assert settle(spelled(value), f"\\boxed{{{value}}}") == RIGHT
    assert settle(str(value), f"\\boxed{{{spelled(value + 1)}}}") == WRONG
    assert settle(str(value), f"\\boxed{{{spelled(-value)}}}") == (WRONG if value else RIGHT)
    for offered in (f"{spelled(value)}, {spelled(value + 1)}", f"{spelled(value)} or {spelled(value + 1)}"):
        assert settle(str(value), f"\\boxed{{{offered}}}") == SEVERAL


# Any text at all. Most of it is settled without math-verify; what is not goes there in the tests that follow.

PIECES = st.sampled_from(
    [
        "\\boxed{", "\\fbox{", "\\frac", "\\sqrt", "\\text{", "\\mathrm{", "\\left(", "\\right)", "\\{", "\\}", "\\\\",
        "\\$", "\\%", "\\,", "\\quad", "\\pm", "\\circ", "\\times", "10^", "\\", "\\boxed", "{", "}", "(", ")", "[", "]",
        ",", ";", ".", ":", "=", "<", ">", "+", "-", "*", "/", "^", "_", "$", "%", "#", '"', "'", "|", "&", "!", "~", "\n",
        " ", "\0", "####", "A:", "Answer:", "or", "and", "18", "1,234", "0.5", "3", "x", "y", "million", "e9", "−", "½",
        "１８", "٣", "\u2028", "π", "²", "\ud800",
    ]
)  # fmt: skip


@given(
    st.one_of(
        st.text(), st.lists(PIECES, max_size=60).map("".join), st.binary().map(lambda b: b.decode("latin-1"))
    )
)
@FUZZ
def test_no_text_makes_it_fail(text: str) -> None:
    for gold in ("18", r"7\sqrt{3}", r"\text{Evelyn}", "-2, 7"):
        for completion in (text, f"\\boxed{{{text}}}", f"#### {text}"):
            found = settle(gold, completion)
            assert isinstance(found, Comparison) or found in ("", *REASONS)
            for answer_format in ("boxed", "hash"):
                settle(gold, completion, answer_format)
    gold_answer(text)
    settle(text, text)


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 150_000,
        "{" * 1_000_000,
        "}" * 1_000_000,
        "\\" * 1_000_000,
        r"\boxed{" + "18 " * 300_000 + "}",
        r"\boxed" + " " * 1_000_000,
        "#" * 1_000_000,
        "A: " * 300_000,
        "\nA:" * 300_000,
        " " * 1_000_000 + "A: 18",
        "\n" + "*_ " * 300_000,
        "1" * 1_000_000,
    ],
)
def test_a_megabyte_takes_no_second(text: str) -> None:
    started = time.process_time()
    assert settle("18", text) in ("", *REASONS)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "piece",
    [
        "1", "1,234", "1 234", "1 ", ",", ",234", " ", "  ", ".", "a", "a ", "ab-", "a-b ", "-", "'",
        '"', '"a', '"a"', "!", r"\text{a}", r"\text{a} ", r"\text{", r"\text ", r"\text{a^2 }", "= ", "=", "x=", "1=",
        "x = 1 = ", "1/", "/", "/m", r"\frac", r"\frac ", r"\frac{1}", r"\frac{\text{m}}{\text{s}}", "(", ")", "()",
        "{", "}", "{}", "{1}", "-(", "[1,", r"\{", r"\}", "\\", "\\ ", r"\,", "^", "^2", "^{", "^{2", "^ {",
        r"^\circ ", "°", "°C", "%", r"\%", "$", "*", "**", "_", "_8", "_{8}", "8_8", " min", " min.", " cm", " kg",
        " hr", " hrs", " ft", "min", "cm", " m", " m/s", "^2 cm", " cm/", r"\cdot ", r"\cdot m", r"\times ",
        r"\times 10^", "x10", "e9", r"\overline{3}", r"\overline", r"\left", r"\left.", r"\left( ", r"\color{",
        r"\color{a}", r"\underline{", r"\boxed{", r"\begin{pmatrix}", r"\end{pmatrix}", r"\end{matrix} ", r"\int ",
        "}{dx", "} { d x ^2 ", "and ", "or", ";", "x_", "x_{1", "x_{1}", "f(", "f(x,", "f(x|", r"\angle ", "AB ",
        "|AB|", "π", "\t", "\n", r"\Omega ", r"\mu", "one-", "twenty-", " million", " dozen", "\0",
        "f(x)", "f(f(", "f[", "f[x]", "_{", "_{x}", "x'", r"\{x", r"\{x\}", "{f}(", "x<", r"\le ", r"\le", "?", " of ", "of",
        '" of "', r"\text{ of }", "1 of", " abc", "1 abc", "1 abc-", r"1\text{a}", r"1 \text{a}^{2}", r"1^\circ ",
        r"\sin 1^\circ", r"\sin", r"\sin x", r"\sin(", r"\sqrt[3]", r"\sqrt", r"\sqrt{", r"\binom", r"\binom12",
        r"\frac12", "1!", r"\begin{", r"\operatorname{", r"\operatorname{a}", r"\mathbb{E}", r"\pmod ", r"\pmod{1}",
        "base ", "(base 2", "in base ", r"\rm ", r"{\rm ", r"{\rm a}", r"\bf", r",\!", r", \! ", "1, 1", "more than ",
        "more  than", "more ", "k", r" k\Omega", "1A", "(1A ", "[", "[1", "]", r"\|", "|", "x/", "x/1", r"\frac{x}",
        "2x", "2 ", "2.", "2,",
    ],
)  # fmt: skip
def test_long_answers_take_no_second(piece: str) -> None:
    golds = ("18", r"\{1, 2\}", "x + y = 3", "52_8")
    slowest = 0.0
    for beginning in ("18", "x = "):
        for end in ("!", "\\", " = 18", "! = 18"):
            answer = (beginning + piece * LONGEST_ANSWER)[: LONGEST_ANSWER - len(end)] + end
            for gold in golds:
                started = time.process_time()
                settle(gold, f"#### {answer}")
                slowest = max(slowest, time.process_time() - started)
    assert slowest < 0.2


def test_units_without_end_take_no_time() -> None:
    # Each word could once be read as two kinds of unit, and so the time doubled with every one.
    started = time.process_time()
    assert settle("5", "\\boxed{5" + " min" * 16 + "!}") == NOT_A_NUMBER
    assert time.process_time() - started < 0.02


@given(st.integers(2, 36), st.integers(-(10**6), 10**6), st.integers(2, 36))
@FUZZ
def test_digits_and_base_must_both_be_right(base: int, value: int, other: int) -> None:
    gold = f"{_in_base(value, base)}_{{{base}}}"
    if not any(digit.isdigit() for digit in gold.partition("_")[0]):
        return  # C_{16} may be anything
    assert settle(gold, f"\\boxed{{{gold}}}") == settle(gold, f"#### {_in_base(value, base)}") == RIGHT
    spelled = _in_base(value, base)
    for wrong in (
        f"{_in_base(value, other)}_{other}",
        f"{spelled}_{other}",
        f"{_in_base(value + 1, base)}_{base}",
    ):
        assert settle(gold, f"\\boxed{{{wrong}}}") == (RIGHT if wrong == f"{spelled}_{base}" else WRONG)


def _in_base(value: int, base: int) -> str:
    digits, left = "", abs(value)
    while left or not digits:
        digits, left = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[left % base] + digits, left // base
    return "-" * (value < 0) + digits


@pytest.mark.parametrize("gold", ["1" * 5000, "x" * 200_000, "1/" * 100_000, "=" * 100_000, "(" * 100_000])
def test_golds_without_end_are_no_trouble(gold: str) -> None:
    # No answer can be as long, so this is no failure of the answer.
    started = time.process_time()
    [verdict] = judge_answers([gold], [r"\boxed{18}"])
    assert (verdict.reward, verdict.reason) == (None, NO_RIGHT_ANSWER)
    assert time.process_time() - started < 0.1


def test_only_the_end_of_a_long_text_is_read() -> None:
    assert settle("18", r"\boxed{18}" + " and so on" * 9_000) == RIGHT
    assert settle("18", r"\boxed{18}" + " and so on" * 11_000) == NO_ANSWER
