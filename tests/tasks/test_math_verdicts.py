"""Answers of mathematics: a table of verdicts by form."""

import pytest

from maxrl.tasks.math import judge_answers
from maxrl.tasks.math_answers import (
    LONGEST_ANSWER,
    NO_ANSWER,
    NOT_A_NUMBER,
    NOT_COMPARABLE,
    REASONS,
    SEVERAL,
    TOO_EXPENSIVE,
    TOO_LONG,
    WRONG,
    settle,
)

RIGHT = ""

# Where the answer stands; the gold is 18.
PLACES = [
    (r"\boxed{18}", RIGHT),
    (r"so we get $\boxed{18}$.", RIGHT),
    (r"\[ \boxed{ 18 } \]", RIGHT),
    (r"\fbox{18}", RIGHT),
    (r"\boxed {18}", RIGHT),
    (r"\boxed{17} no, wait: \boxed{18}", RIGHT),  # the last box wins …
    (r"\boxed{18} or \boxed{17}", WRONG),  # … and is the only chance
    (r"\boxed{18} #### 17", RIGHT),  # a box comes before other forms
    (r"#### 18" + "\n" + r"\boxed{17}", WRONG),
    (r"\boxed{\boxed{18}}", RIGHT),
    (r"\boxed{17 \boxed{18}}", NOT_A_NUMBER),  # the outer box is the answer
    (r"\boxed{\text{so } \{18\}}", NOT_A_NUMBER),
    (r"{ \boxed{18}", RIGHT),  # a brace that has nothing to do with it
    (r"} \boxed{18}", RIGHT),
    (r"\{ \boxed{18}", RIGHT),
    (r"\boxed{\{18}", NOT_A_NUMBER),  # and one that is text
    (r"\boxed{18", NO_ANSWER),  # cut off
    (r"\boxed{18} and then \boxed{1", NO_ANSWER),
    (r"\boxed{never closed \boxed{18}", RIGHT),
    (r"\boxed{}", NO_ANSWER),
    (r"\boxed{ }", NO_ANSWER),
    (r"\boxed", NO_ANSWER),
    ("", NO_ANSWER),
    ("18", NO_ANSWER),
    ("The answer is 18.", NO_ANSWER),
    ("#### 18", RIGHT),
    ("3 * 6 = 18\n####18\n", RIGHT),
    ("#### 17\n#### 18", RIGHT),
    ("#### 18\n#### 17", WRONG),
    ("#### 18\nand so on", RIGHT),
    ("####", NO_ANSWER),
    ("A: 18", RIGHT),
    ("Q: how many?\nA: 18.", RIGHT),
    ("Answer: 18", RIGHT),
    ("answer : 18", RIGHT),
    ("**Final Answer:** 18", RIGHT),
    ("> **Answer**: $18$", RIGHT),
    ("A: 17\nA: 18", RIGHT),
    ("A: 18\nA: 17", WRONG),
    ("The answer: 18", NO_ANSWER),  # not at the beginning of a line
    ("a: 18", NO_ANSWER),
    ("Answer: 18\n#### 17", WRONG),
]

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
    ("18", "(18)", NOT_A_NUMBER),
    ("18", r"\{18\}", NOT_A_NUMBER),
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
    ("-3", "(-3)", NOT_A_NUMBER),
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

# Words, choices and expressions.
OTHERS = [
    (r"\text{Evelyn}", "Evelyn", RIGHT),
    (r"\text{Evelyn}", r"\text{ evelyn. }", RIGHT),
    (r"\text{Evelyn}", "Nyleve", WRONG),  # no product of letters
    (r"\text{Evelyn}", "Evelyn or Tom", SEVERAL),
    (r"\text{Evelyn}", r"Evelyn \text{ or } Tom", SEVERAL),
    ("no solution", "No  Solution", RIGHT),
    ("no", "No", RIGHT),
    ("no", "yes", WRONG),
    ("odd", "even", WRONG),
    ("odd", "odd and even", SEVERAL),
    ("B", "B", RIGHT),
    ("B", r"\text{(B)}", RIGHT),
    (r"\textbf{(B)}", "B.", RIGHT),
    ("B", "C", WRONG),
    ("B", "b", WRONG),
    ("B", "B, C", SEVERAL),
    (r"7\sqrt{3}", r"7\sqrt3", RIGHT),
    (r"7\sqrt{3}", r"7 \sqrt{3}\text{ cm}", RIGHT),
    (r"7\sqrt{3}", r"x = 7\sqrt{3}", RIGHT),
    (r"7\sqrt{3}", r"\sqrt{147}", RIGHT),
    (r"7\sqrt{3}", r"12.124356", RIGHT),
    (r"7\sqrt{3}", r"12.12", WRONG),
    (r"7\sqrt{3}", r"7\sqrt{2}", WRONG),
    (r"7\sqrt{3}", r"-7\sqrt{3}", WRONG),
    (r"7\sqrt{3}", r"7\sqrt{3}, 5", SEVERAL),
    (r"7\sqrt{3}", r"7\sqrt{3} \text{ or } 5", SEVERAL),
    (r"7\sqrt{3}", r"7\sqrt{3} \text{ or five}", SEVERAL),
    (r"7\sqrt{3}", r"\pm 7\sqrt{3}", SEVERAL),
    (r"7\sqrt{3}", "not mathematics at all", WRONG),
    (r"7\sqrt{3}", r"7\sqrt{3", NO_ANSWER),
    (r"\frac{\sqrt{3}}{2}", r"\frac{3}{2\sqrt{3}}", RIGHT),
    (r"25\pi", "25π", RIGHT),
    (r"25\pi", "25", WRONG),
    ("2x^2 + 7x - 15", "(2x - 3)(x + 5)", RIGHT),
    ("2x^2 + 7x - 15", "7x + 2x^{2} - 15", RIGHT),
    ("2x^2 + 7x - 15", "2y^2 + 7y - 15", WRONG),
    ("2x^2 + 7x - 15", "2x^2 + 7x + 15", WRONG),
    ("y = -3x + 8", "y=-3x+8", RIGHT),
    ("y = -3x + 8", "3x + y = 8", RIGHT),
    ("y = -3x + 8", "y = 3x + 8", WRONG),
    ("(3, -7)", r"\left(3,\,-7\right)", RIGHT),
    ("(3, -7)", r"\left( \frac{6}{2}, -7 \right)", RIGHT),
    ("(3, -7)", "(-7, 3)", WRONG),
    ("(3, -7)", "(3, 7)", WRONG),
    ("(3, -7)", "(3, -7), (1, 1)", SEVERAL),
    ("-2, 7", "7, -2", RIGHT),
    ("-2, 7", r"x = -2 \text{ or } x = 7", RIGHT),
    ("-2, 7", r"\{-2, 7\}", RIGHT),
    ("-2, 7", "7", WRONG),
    ("-2, 7", "-2, 7, 8", WRONG),
    ("[-1, 4]", "[-1,4]", RIGHT),
    ("[-1, 4]", "(-1, 4)", WRONG),
    ("[-1, 4]", "[-1, 4)", WRONG),
    (r"(-\infty, 5)", r"\left(-\infty,5\right)", RIGHT),
    (r"(-\infty, 5)", "(-∞, 5)", RIGHT),
    (r"(-\infty, 5)", r"(-\infty, 5]", WRONG),
    (r"x \le 4", r"x \leq 4", RIGHT),
    (r"x \le 4", "x ≤ 4", RIGHT),
    (r"x \le 4", "x < 4", WRONG),
    ("14 - 5i", "-5i + 14", RIGHT),
    ("14 - 5i", "14 + 5i", WRONG),
    (r"\begin{pmatrix} 7 & 10 \\ 15 & 22 \end{pmatrix}", r"\begin{bmatrix}7&10\\15&22\end{bmatrix}", RIGHT),
    (r"\begin{pmatrix} 7 & 10 \\ 15 & 22 \end{pmatrix}", r"\begin{pmatrix}7&10\\15&23\end{pmatrix}", WRONG),
    ("1010_2", "1010_{2}", RIGHT),
    ("2^{10}", "1024", RIGHT),
    (r"e^{-30}", "0", WRONG),
    (r"\begin{pmatrix}1\\(2)\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", RIGHT),
]


def test_the_table_is_long_enough() -> None:
    assert len(PLACES) + len(NUMBERS) + len(OTHERS) >= 200


@pytest.mark.parametrize(("completion", "reason"), PLACES)
def test_where_the_answer_stands(completion: str, reason: str) -> None:
    assert settle("18", completion) == reason


@pytest.mark.parametrize(("gold", "answer", "reason"), NUMBERS)
def test_numbers(gold: str, answer: str, reason: str) -> None:
    assert settle(gold, f"\\boxed{{{answer}}}") == reason


@pytest.mark.parametrize(("gold", "answer", "reason"), OTHERS)
def test_words_and_expressions(gold: str, answer: str, reason: str) -> None:
    [verdict] = judge_answers([gold], [f"\\boxed{{{answer}}}"])
    assert (verdict.reason, verdict.reward, verdict.error) == (reason, float(not reason), None)


def test_every_reason_is_a_documented_one() -> None:
    shown = {reason for *_, reason in [*PLACES, *NUMBERS, *OTHERS]} - {RIGHT}
    assert shown | {TOO_EXPENSIVE, NOT_COMPARABLE} == set(REASONS)
