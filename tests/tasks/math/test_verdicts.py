"""Answers of mathematics: a table of verdicts by form."""

import pytest

from maxrl.tasks.math.answers import (
    LEFT_TO_DO,
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
from maxrl.tasks.math.verdicts import judge_answers

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
    ("A: The answer is 18", RIGHT),
    ("Answer: the final answer is: $18$.", RIGHT),
    ("A: The answer isn't 18", NOT_A_NUMBER),
    ("A: The answer is not 18", NOT_A_NUMBER),
    ("A:\n18", RIGHT),  # on the line below
    ("**Answer:**\r\n\n**18**\n", RIGHT),
    ("A:\n17\nA:\n18\n19", RIGHT),
    ("Answer:\n\\[\n18\n\\]", RIGHT),
    ("**Answer:**\n\n$$\n18\n$$", RIGHT),
    ("Answer:\n$$", NO_ANSWER),
    ("Answer:\n\nThe answer is 18.", RIGHT),
    ("Final Answer: The final answer is $18$. I hope it is correct.", RIGHT),
    ("A: I hope it is correct.", NO_ANSWER),
    ("#### Answer: 18", RIGHT),
    ("#### The answer is 18", RIGHT),
    ("#### The answer is not 18", NOT_A_NUMBER),
    ("A:\nso 18", NOT_A_NUMBER),
    ("A:\nA: 18", RIGHT),
    ("A: 18\nA:", NO_ANSWER),  # cut off
    ("The answer: 18", NO_ANSWER),  # not at the beginning of a line
    ("a: 18", NO_ANSWER),
    ("Answer: 18\n#### 17", WRONG),
]

SAME_PLANE = (
    "5x-7y+11z+4=0", "-5x+7y-11z-4=0", "-4 = 5x-7y+11z", "5x-7y+11z=-4", "4+5x+11z-7y=0", "10x-14y+22z+8=0",
)  # fmt: skip
NOT_THE_PLANE = (
    "0", "-4", "x=0", "x+y+z=0", "1=0", "0=0", "5x-7y+11z+4", "5x-7y+11z+4=1",
)  # fmt: skip
MATRIX_SUMS = (
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}\begin{pmatrix}1&2\\3&4\end{pmatrix}",
    r"\begin{pmatrix}3&5\\7&11\end{pmatrix} + \begin{pmatrix}4&5\\8&11\end{pmatrix}",
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^2",
)  # fmt: skip

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
    ("y = -3x + 8", "8 - 3x", RIGHT),
    ("2x + 1", "f(x) = 2x + 1", RIGHT),
    ("x^2 - 1", "f(x) = (x-1)(x+1) = x^2 - 1", RIGHT),
    ("x^2 - 1", "f(x) = x^2 = x^2 - 1", WRONG),
    (r"7\sqrt{3}", r"x > 3 = 7\sqrt{3}", WRONG),
    (r"7\sqrt{3}", r"8 = 7\sqrt{3}", WRONG),
    # Equations, and not the numbers on their right.
    *[("5x - 7y + 11z + 4 = 0", equation, RIGHT) for equation in SAME_PLANE],
    *[("5x - 7y + 11z + 4 = 0", other, WRONG) for other in NOT_THE_PLANE],
    *[("x^2+y^2=25", other, WRONG) for other in ("25", "y=25", "25=25", "x^2+y^2", "x^2-y^2=25")],
    *[("x^2+y^2=25", equation, RIGHT) for equation in ("y^2+x^2=25", "x^2+y^2-25=0", "25=x^2+y^2")],
    ("2x+3y=6", "6", WRONG),
    ("2x+3y=6", r"y = 2 - \frac{2}{3}x", RIGHT),
    ("x+y=3", "3", WRONG),
    ("x+y=3", "x-y=3", WRONG),
    ("xy=12", "12", WRONG),
    ("xy=12", "yx=12", RIGHT),
    ("x(x+1)=12", "12", WRONG),
    ("x=1, y=7", "7", WRONG),
    # Stated again.
    (r"\frac{\pi}{4}", r"\int_0^1 \frac{1}{1+x^2} dx", LEFT_TO_DO),
    (r"2e", r"2\sum_{n=0}^{\infty} \frac{1}{n!}", LEFT_TO_DO),
    ("n!", r"\prod_{k=1}^n k", LEFT_TO_DO),
    (r"\sqrt{2}", r"\lim_{x \to 0} \sqrt{2+x}", LEFT_TO_DO),
    (r"\frac{n(n-1)}{2}", r"\binom{n}{2}", LEFT_TO_DO),
    (r"\frac{n(n-1)}{2}", r"{n \choose 2}", LEFT_TO_DO),
    (r"\binom{n}{2}", r"\frac{n(n-1)}{2}", RIGHT),
    (r"\binom{n}{2}", r"\binom{n}{n-2}", RIGHT),
    (r"\sqrt{2}", r"\max(\sqrt{2}, 1)", LEFT_TO_DO),
    (r"\sqrt{2}", r"\operatorname{max}(\sqrt{2}, 1)", LEFT_TO_DO),
    ("2x", r"\frac{d}{dx} x^2", LEFT_TO_DO),
    ("2x", r"\frac{d(x^2)}{\mathrm{d}x}", LEFT_TO_DO),
    ("2x", r"\frac{\partial}{\partial x} x^2", LEFT_TO_DO),
    ("x - 1", r"\lfloor x \rfloor - 1", LEFT_TO_DO),
    ("x + 1", r"(x \bmod 7) + 1", LEFT_TO_DO),
    (r"\frac{\sqrt{2}}{2}", r"\sin 45^\circ", LEFT_TO_DO),
    (r"\sin^2 x", r"1 - \cos^2 x", RIGHT),
    (r"\sqrt{\pi}", r"\Gamma(1/2)", LEFT_TO_DO),
    (r"\frac{\pi}{4}", r"\frac{\Gamma(\frac12)^2}{4}", LEFT_TO_DO),
    (r"\Gamma(x + 1)", r"\Gamma(1 + x)", RIGHT),
    (r"2\sqrt{2}", r"2!\sqrt{2}", LEFT_TO_DO),
    ("n! + 1", "1 + n!", RIGHT),
    (r"\sqrt{2}", r"\log 10^{\sqrt{2}}", LEFT_TO_DO),
    (r"2\ln 2", r"\ln 4", RIGHT),
    # Numbers in a base: their digits, with the base or without.
    ("52_8", "52_8", RIGHT),
    ("52_8", "52_{8}", RIGHT),
    ("52_8", r"52_{\text{8}}", RIGHT),
    ("52_8", "(52)_{8}", RIGHT),
    ("52_8", "x = 052_8", RIGHT),
    ("52_8", "52", RIGHT),
    ("52_8", "52_7", WRONG),
    ("52_8", "52_{10}", WRONG),
    ("52_8", "42", WRONG),  # what it is in base ten
    ("52_8", "42_{10}", WRONG),  # the same number, and perhaps the one that was to be written in base 8
    ("52_8", "101010_2", WRONG),
    ("52_8", "58_8", WRONG),
    ("52_8", "-52_8", WRONG),
    ("52_8", "98", WRONG),
    ("52_8", r"52\pi", WRONG),
    ("-52_8", "-52", RIGHT),
    ("1A3_{16}", r"\text{1A3}_{16}", RIGHT),
    ("1A3_{16}", "1A4_{16}", WRONG),
    ("10_1", "10_{1}", RIGHT),  # no base, so the text alone
    ("52_0", "52_{0}", RIGHT),
    ("11000_2", r"11000 \text{ (base 2)}", RIGHT),
    ("11000_2", r"11000\text{ in base 2}", RIGHT),
    ("11000_2", r"11000_{\text{two}}", RIGHT),
    ("11000_2", "11000 base two", RIGHT),
    ("11000_2", "11000 (in base-2)", RIGHT),
    ("11000_2", r"11000\text{ in base 3}", WRONG),
    ("11000_2", r"11000_{\text{three}}", WRONG),
    ("11000_2", r"11000_{\text{many}}", WRONG),
    ("11000_2", r"24\text{ (base 10)}", WRONG),
    (r"11000\text{ (base 2)}", "11000_2", RIGHT),
    ("52_8, 61_8", "61_8, 52_8", RIGHT),
    ("52_8, 61_8", "61_7, 52_7", WRONG),
    ("C_4", "C_5", WRONG),
    ("A_{16}", "A_{15}", WRONG),
    ("(3, -7)", r"\left(3,\,-7\right)", RIGHT),
    ("(3, -7)", r"\left( \frac{6}{2}, -7 \right)", RIGHT),
    ("(3, -7)", "(-7, 3)", WRONG),
    ("(3, -7)", "(3, 7)", WRONG),
    ("(3, -7)", "(3, -7), (1, 1)", SEVERAL),
    ("-2, 7", "7, -2", RIGHT),
    ("-2, 7", r"x = -2 \text{ or } x = 7", RIGHT),
    ("-2, 7", r"\{-2, 7\}", RIGHT),
    ("-2, 7", "(-2, 7)", WRONG),  # a point, or an interval
    ("-2, 7", "[-2, 7]", WRONG),
    ("(3, -7)", r"\{3, -7\}", WRONG),
    ("(3, -7)", "(x, y) = (3, -7)", RIGHT),
    ("(3, -7)", "3, -7", SEVERAL),
    # No thousands in points and intervals.
    *[
        ("(0,100)", answer, RIGHT)
        for answer in ("(0,100)", "(0, 100)", r"(0,\,100)", r"x\in(0,100)", "(0.0,100)")
    ],
    *[("(0,100)", answer, WRONG) for answer in ("100", "0100", "(100)", "0,100", "[0,100]")],
    ("(10,236)", "10236", WRONG),
    ("(-1,234)", "-1234", WRONG),
    ("(100,200)", "(100, 200)", RIGHT),
    ("(100,200)", "100200", WRONG),
    ("(3,125,216)", "(3, 125, 216)", RIGHT),
    ("(3,125,216)", "3125216", WRONG),
    ("(x,y)=(2,100)", "(2, 100)", RIGHT),
    ("(x,y)=(2,100)", "(x, y) = (2, 100)", RIGHT),
    ("(x,y)=(2,100)", "2100", WRONG),
    (r"\{1, 2, 3\}", r"\{3, 2, 1\}", RIGHT),
    (r"\{1, 2, 3\}", "3, 2, 1", RIGHT),  # a set, listed
    (r"\{1, 2, 3\}", "1, 2", WRONG),
    (r"\{1, 2, 3\}", "1, 2, 3, 4", WRONG),
    (r"\{1, 2, 3\}", "(1, 2, 3)", WRONG),
    (r"\{1, 2, 3\}", r"1, 2, 3 \text{ or } 4", SEVERAL),
    (r"\{1, 2, 3\}", r"\{1, 2, 3\}; 4", SEVERAL),
    (r"\{1, 2, 3\}", "x = 1, 2, 3", SEVERAL),
    (r"\emptyset", r"\varnothing", RIGHT),
    (r"\varnothing", "∅", RIGHT),
    (r"\emptyset", r"\{0\}", WRONG),
    (r"x \in (3, 5)", "(3, 5)", RIGHT),
    (r"(-\infty, 2) \cup (3, 4)", r"(3, 4) \cup (-\infty, 2)", RIGHT),
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
    *[(r"\begin{pmatrix} 7 & 10 \\ 15 & 22 \end{pmatrix}", answer, LEFT_TO_DO) for answer in MATRIX_SUMS],
    (r"\begin{pmatrix} 2 & 4 \\ 6 & 8 \end{pmatrix}", r"2\begin{pmatrix}1&2\\3&4\end{pmatrix}", RIGHT),
    ("1010_2", "1010_{2}", RIGHT),
    ("2^{10}", "1024", RIGHT),
    ("2^{10}", "1" * (LONGEST_ANSWER + 1), TOO_LONG),
    (r"e^{-30}", "0", WRONG),
    (r"\begin{pmatrix}1\\(2)\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}", RIGHT),
]


def test_the_table_is_long_enough() -> None:
    assert len(PLACES) + len(OTHERS) >= 150


@pytest.mark.parametrize(("completion", "reason"), PLACES)
def test_where_the_answer_stands(completion: str, reason: str) -> None:
    assert settle("18", completion) == reason


@pytest.mark.parametrize(("gold", "answer", "reason"), OTHERS)
def test_words_and_expressions(gold: str, answer: str, reason: str) -> None:
    [verdict] = judge_answers([gold], [f"\\boxed{{{answer}}}"])
    assert (verdict.reason, verdict.reward, verdict.error) == (reason, float(not reason), None)


def test_every_reason_is_a_documented_one() -> None:
    shown = {reason for *_, reason in [*PLACES, *OTHERS]} - {RIGHT}
    assert shown | {TOO_EXPENSIVE, NOT_COMPARABLE} == set(REASONS)
