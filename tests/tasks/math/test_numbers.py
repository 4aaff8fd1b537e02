"""Answers of mathematics that are numbers: a table of verdicts by form, and what a line of arithmetic comes to."""

from fractions import Fraction

import pytest

from maxrl.tasks.math.answers import (
    LONGEST_ANSWER,
    NOT_A_NUMBER,
    SEVERAL,
    TOO_LONG,
    WRONG,
    settle,
)
from maxrl.tasks.math.arithmetic import evaluate

RIGHT = ""

UNITS = (
    "m", "L", "g", "s", "h", "N", "K", "m/s", "km/h", "ft/s", "m^2", "m/s^2", "L/min", "people/day", "miles per hour",
    "sq. units", r"\Omega", r"\text{k}\Omega", r"\mu\text{m}", r"\frac{\text{m}}{\text{s}}",
    r"\frac{\text{m}}{\text{s}^2}", r"\text{kg}\cdot\text{m/s}^2", "four-leaf clovers", "half-dollars",
    "third-graders", "one-dollar bills", "ten-dollar bills", "no-parking signs", "boys-and-girls", "more",
)  # fmt: skip
NO_UNITS = (
    "is wrong", "is the answer", "too many", "but maybe", "except", "below freezing", "above", "under par", "not",
    "wrong", r"\text{ isn't it}", "at most", "at least", "perhaps", "less than x", "more than that", "base two",
)  # fmt: skip
BEFORE_EQUALS = (
    "f(x)", "f'(2)", "P(X=2)", r"P(A \cap B)", "AB", "|AB|", r"\overline{AB}", r"\angle ABC", r"\theta", "a_5",
    "a_{10}", r"V_{\text{max}}", "Total cost", r"\text{Total}", "x = y", r"\frac{36}{2}", "20 - 2", "2(4+5)",
    r"x = 3 \times 6", r"\frac{30+6}{2}", r"6 \div \frac{1}{3}", "2^4 + 2", "18.0", r"\$9 + \$9", "-(2 - 20)",
    ".5 * 36",
)  # fmt: skip
NOT_BEFORE_EQUALS = (
    "8", "17.999", "20 - 3", "2x", "x + 1", "x > 3", "xy", "x(x+1)", r"\sqrt{x}", "x^2", "not x", "x not",
    r"\sqrt{324}", r"\frac{36}", r"\frac36", "1/0", "2^", "2^(1/2)", "9^(9^(9^9))", "(" * 400 + "18",
    "(" * 40 + "18" + ")" * 40, "((18)", "18)", "1 2", "*18", "36/", r"\frac{36}{0}", "9^99999", "18 apples",
)  # fmt: skip

# What a number may look like.
NUMBERS = [
    ("18", "18.", RIGHT),
    ("18", "18.0", RIGHT),
    ("18", "+18", RIGHT),
    ("18", "018", RIGHT),
    ("18", r"\$18", RIGHT),
    ("18", "$18.00", RIGHT),
    ("18", "€18", RIGHT),
    ("18", "18 €", RIGHT),
    ("18", "18 apples", RIGHT),
    ("18", "18 square feet", RIGHT),
    ("18", r"18\text{ apples}", RIGHT),
    ("18", r"18\,\text{cm}^2", RIGHT),
    ("18", r"18~\mathrm{m/s^2}", RIGHT),
    ("18", r"18\text{m}", RIGHT),
    ("18", r"\text{18 apples}", RIGHT),
    ("18", r"\mathbf{18}", RIGHT),
    ("18", "**18**", RIGHT),
    ("18", "18km", RIGHT),
    ("18", "x = 18", RIGHT),
    ("18", r"\text{Total} = 18", RIGHT),
    ("18", "3 \\times 6 = 18", RIGHT),
    ("18", r"\left. 18 \right.", RIGHT),
    # Units: single letters after a blank, quotients, symbols; compounds.
    *[("18", f"18 {unit}", RIGHT) for unit in UNITS],
    ("18", "18¢", RIGHT),
    ("18", "18/day", RIGHT),
    ("18", "18/xy", NOT_A_NUMBER),
    ("18", "18/h", NOT_A_NUMBER),  # could be a quotient
    ("18", "18 m/x", NOT_A_NUMBER),
    ("18", "18m", NOT_A_NUMBER),  # could be a product
    ("18", "18 x", NOT_A_NUMBER),
    ("18", "18 xy", NOT_A_NUMBER),
    ("18", r"18 \frac{\text{m}}{2}", NOT_A_NUMBER),
    ("18", r"18 \frac{m}{n}", NOT_A_NUMBER),
    ("18", r"18 \text{!}", NOT_A_NUMBER),
    ("18", "18 m minus", NOT_A_NUMBER),
    ("18", "18-x", NOT_A_NUMBER),
    ("18", "18 twenty-fifths", NOT_A_NUMBER),
    ("2", "2 two-thirds", NOT_A_NUMBER),
    ("18", "18 apples from the basket", NOT_A_NUMBER),  # a sentence
    ("18", r"18 \text{ apples that he ate}", NOT_A_NUMBER),
    *[("7", f"7 {words}", NOT_A_NUMBER) for words in NO_UNITS],
    ("7", "7 or so", SEVERAL),
    ("10", "10 dozen", WRONG),  # nobody leaves the dozens out
    ("120", "10 dozen", RIGHT),
    ("10 dozen", "10", RIGHT),
    ("10 dozen", "120", RIGHT),
    ("300", "3 hundred thousand", NOT_A_NUMBER),
    # Looks.
    ("18", r"\textcolor{red}{18}", RIGHT),
    ("18", r"\color{red}18", RIGHT),
    ("18", r"\color{red}{18}", RIGHT),
    ("18", r"\underline{18}", RIGHT),
    ("0.5", r"\underline{\frac{1}{2}}", RIGHT),
    ("18", "18\\\\", RIGHT),
    ("18", "18.\\\\ \\\\", RIGHT),
    ("18", r"\cancel{18}", NOT_A_NUMBER),
    # Equations: names or arithmetic that comes to the number, before it.
    ("18", "= 18", RIGHT),
    *[("18", f"{name} = 18", RIGHT) for name in BEFORE_EQUALS],
    *[("18", f"{side} = 18", NOT_A_NUMBER) for side in NOT_BEFORE_EQUALS],
    ("0.5", r"\frac{1}{2} = 50\%", RIGHT),
    ("18", "18 = x", NOT_A_NUMBER),
    ("18", "(x = 18", NOT_A_NUMBER),
    ("y = 3", "3", RIGHT),
    ("y = 3", "y = 3", RIGHT),
    ("y = 3", "x = 3", WRONG),  # another line
    (r"\text{Total} = 3", "x = 3", RIGHT),
    ("f(2) = 3", "x = 3", RIGHT),
    ("18", r"18^\circ", RIGHT),
    ("18", r"18^{\circ}\text{C}", RIGHT),
    ("18", "18°", RIGHT),
    ("18", "19", WRONG),
    ("18", "-18", WRONG),
    ("18", "1.8", WRONG),
    ("18", "180", WRONG),
    ("18", "18.001", WRONG),
    ("18", "18.0000000000001", WRONG),
    ("18", r"3 \times 6", NOT_A_NUMBER),
    ("18", "20 - 2", NOT_A_NUMBER),
    ("18", "36/2", NOT_A_NUMBER),  # a sum left to do
    ("18", r"\frac{36}{2}", NOT_A_NUMBER),
    ("18", r"\sqrt{324}", NOT_A_NUMBER),
    ("18", "18x", NOT_A_NUMBER),
    ("18", "18xy", NOT_A_NUMBER),
    ("18", "18!", NOT_A_NUMBER),
    ("18", r"18\pi", NOT_A_NUMBER),
    ("18", "x > 18", NOT_A_NUMBER),
    ("18", "x >= 18", NOT_A_NUMBER),
    ("18", r"x \le 18", NOT_A_NUMBER),
    ("18", r"x \neq 18", NOT_A_NUMBER),
    ("18", "about 18", NOT_A_NUMBER),
    ("18", "not 18", NOT_A_NUMBER),
    ("18", "eighteen", NOT_A_NUMBER),
    ("18", "１８", NOT_A_NUMBER),  # full-width digits
    ("18", "٨", NOT_A_NUMBER),
    ("18", "18 halves", NOT_A_NUMBER),
    ("18", "18 nineteen", NOT_A_NUMBER),
    ("18", "18 19", NOT_A_NUMBER),
    ("18", "(18)", RIGHT),
    ("18", "{18}", RIGHT),
    ("18", "x = (18)", RIGHT),
    ("18", "(18", NOT_A_NUMBER),
    ("18", "(9)(2)", NOT_A_NUMBER),
    ("18", "[18]", NOT_A_NUMBER),
    ("18", r"\{18\}", NOT_A_NUMBER),  # a set, or the roots of an equation: no number
    ("18", "-(-18)", RIGHT),
    ("18", "--18", NOT_A_NUMBER),
    ("18", "-(18)", WRONG),
    ("18", "(-(-18))", RIGHT),
    ("18", "()", NOT_A_NUMBER),
    ("18", "18, 19", SEVERAL),
    ("18", "18; 19", SEVERAL),
    ("18", "18 or 19", SEVERAL),
    ("18", r"18 \text{ or } 19", SEVERAL),
    ("18", "18 and 19", SEVERAL),
    ("18", r"18 \pm 1", SEVERAL),
    ("18", "x = 19, y = 18", SEVERAL),
    ("18", "either 18", SEVERAL),
    ("-3", "-3", RIGHT),
    ("-3", "− 3", RIGHT),
    ("-3", "–3", RIGHT),
    ("-3", r"\$-3", RIGHT),
    ("-3", "-$3", RIGHT),
    ("-3", "3", WRONG),
    ("-3", "(-3)", RIGHT),
    ("-3", r"\left(-3\right)", RIGHT),
    ("-3", "-(3)", RIGHT),
    ("-3", "(3)", WRONG),
    ("0", "-0", RIGHT),
    ("1234", "1,234", RIGHT),
    ("1,234", "1234", RIGHT),
    ("1234", "1{,}234.0", RIGHT),
    ("1234", r"1\,234", RIGHT),
    ("1234", "1 234", RIGHT),
    ("1234567", "1,234,567", RIGHT),
    ("1234567", "1234,567", NOT_A_NUMBER),
    ("1234", "12,34", SEVERAL),
    ("1234", "1,2345", SEVERAL),
    ("1.234", "1,234", WRONG),  # a comma is no decimal point
    ("3.5", "3,5", SEVERAL),
    ("1/2", "0.5", RIGHT),
    ("0.5", ".5", RIGHT),
    ("0.5", "1/2", RIGHT),
    ("0.5", r"\frac12", RIGHT),
    ("0.5", r"\dfrac{1}{2}", RIGHT),
    ("0.5", r"\tfrac { 1 } { 2 }", RIGHT),
    ("0.5", r"\frac{2}{4}", RIGHT),
    ("0.5", "1 / 2 cup", RIGHT),
    (r"-\frac{1}{2}", r"\frac{-1}{2}", RIGHT),
    (r"-\frac{1}{2}", "-.5", RIGHT),
    (r"-\frac{1}{2}", r"\frac{1}{-2}", RIGHT),
    (r"\frac{1}{2}", r"\frac{1}{-2}", WRONG),
    (r"\frac{1}{2}", r"\frac{-1}{-2}", RIGHT),
    (r"\frac{1}{2}", r"-\frac{1}{2}", WRONG),
    (r"\frac{1}{2}", "2/1", NOT_A_NUMBER),
    (r"\frac{1}{2}", "1/0", NOT_A_NUMBER),
    (r"\frac{3}{2}", r"1\frac{1}{2}", RIGHT),
    (r"\frac{3}{2}", r"1 \frac12", RIGHT),
    (r"\frac{3}{2}", "1 1/2", RIGHT),
    (r"\frac{-3}{2}", r"-1\frac{1}{2}", RIGHT),
    (r"\frac{11}{2}", r"1\frac{9}{2}", NOT_A_NUMBER),  # could be a product
    ("11/2", "1 1/2", WRONG),
    ("1/3", "0.333333", RIGHT),  # the rounding, to six places or more
    ("1/3", "0.3333333333", RIGHT),
    ("2/3", "0.666667", RIGHT),
    ("0.333333", r"\frac{1}{3}", RIGHT),
    ("1/3", r"0.\overline{3}", RIGHT),
    ("1/6", r"0.1\overline{6}", RIGHT),
    ("-1/7", r"-0.\overline{142857}", RIGHT),
    ("1/3", r"0.\overline{6}", WRONG),
    ("0.3", r"0.\overline{3}", WRONG),
    ("0.3", r"\overline{3}", NOT_A_NUMBER),
    ("1/3", "0.33", WRONG),
    ("2/3", "0.666666", WRONG),
    ("100/3", "33.3333", WRONG),  # too few places to be taken for it
    ("1/3", "0.333334", WRONG),
    ("1/3000000", "0.000000", WRONG),  # no rounding of a small number is zero
    ("50", r"50\%", RIGHT),
    ("50", "50 percent", RIGHT),
    (r"50\%", "50", RIGHT),
    (r"50\%", "0.5", RIGHT),
    ("0.5", "50%", RIGHT),
    (r"50\%", r"\frac{1}{2}", RIGHT),
    (r"50\%", "0.5%", WRONG),
    (r"50\%", "5", WRONG),
    ("3000000", "3 million", RIGHT),
    ("3", "3 million", RIGHT),  # the problem may ask how many millions
    ("3 million", "3,000,000", RIGHT),
    ("3 million", "3 billion", WRONG),
    ("3 million", "300%", WRONG),
    ("45000", r"4.5 \times 10^4", RIGHT),
    ("45000", r"4.5 \cdot 10^{4}", RIGHT),
    ("45000", "4.5e4", RIGHT),
    ("45000", "4.5 × 10^{4} joules", RIGHT),
    ("0.00045", r"4.5 \times 10^{-4}", RIGHT),
    ("1.6e-19", r"1.6\times10^{-19}\text{ C}", RIGHT),
    ("1.6e-19", "0", WRONG),
    ("1000", "10^3", RIGHT),
    ("1000", "10^{3}", RIGHT),
    ("1000", "2^{10}", NOT_A_NUMBER),
    ("1000", "10^{10^{10}}", NOT_A_NUMBER),
    ("1000", "1e9999999", NOT_A_NUMBER),
    ("x = 5", "5", RIGHT),
    ("5", "5" * LONGEST_ANSWER + "5", TOO_LONG),
]


def test_the_table_is_long_enough() -> None:
    assert len(NUMBERS) >= 250


@pytest.mark.parametrize(("gold", "answer", "reason"), NUMBERS)
def test_numbers(gold: str, answer: str, reason: str) -> None:
    assert settle(gold, f"\\boxed{{{answer}}}") == reason


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("-2^2", -4),
        ("(-2)^2", 4),
        ("2 - 3 - 4", -5),
        ("12 / 3 / 2", 2),
        ("2(3+4)5", None),
        (r"2 \times (3+4)(1)", 14),
        (r"\frac{1}{2} + \frac{ 1 }{3}", Fraction(5, 6)),
        (r"\frac{\frac{1}{2}}{-3}", Fraction(-1, 6)),
        ("1,234.5 - .5", 1234),
        ("12,34", None),
        ("2^{-2}", Fraction(1, 4)),
        ("0^{-1}", None),
        ("2^{1/2}", None),
        ("2^3000", 2**3000),
        ("2^9999", None),
        ("3 - - 3", None),
        ("", None),
        ("()", None),
        ("x", None),
    ],
)
def test_what_arithmetic_comes_to(text: str, value: object) -> None:
    assert evaluate(text) == value
