"""Answers of mathematics that are equations: which side counts, and what the others may be."""

import pytest

from maxrl.tasks.math.answers import (
    LEFT_TO_DO,
    NOT_A_NUMBER,
    NOT_COMPARABLE,
    SEVERAL,
    TOO_EXPENSIVE,
    WRONG,
    Comparison,
    read_gold,
    settle,
)
from maxrl.tasks.math.verdicts import judge_answers

RIGHT = ""

# What was asked for, before the 45 that it is.
ASKED_FOR = (
    "m+n", "p+q", "a+b+c", "100a+b", "x+y", "x_1 + x_2", r"\alpha+\beta", "AB^2", r"AB \cdot CD", "abc", "x^2+y^2", "xyz",
    r"\frac{m}{n}", "x/y", r"\frac{AB}{2}", "|S|", r"\#S", r"|A \cap B|", r"\|\mathbf{v}\|", "[ABC]", r"\text{Area}(ABC)",
    r"\text{Area of } \triangle ABC", r"\text{area of } ABC", r"\text{Value of } x^2", r"\text{Revenue} - \text{Cost}",
    r"\text{Profit} = \text{Revenue} - \text{Cost}", r"\angle{ABC}", r"\measuredangle ABC", r"\text{m}\angle A",
    r"\angle 1", "f^{-1}(3)", "f(f(3))", r"(f\circ g)(1)", "f(1/2)", r"f(\sqrt2)", "f(x+1)", "f(2)+f(3)", "E[X]",
    r"\mathbb{E}[X]", r"\Pr(A)", r"\mathbb{P}(X > 3)", r"P(X \ge 3)", r"E[X \mid X > 3]", r"\max_{x > 0} f(x)",
    r"|\{x : x > 3\}|", r"\gcd(a,b)", r"\operatorname{lcm}(9,5)", r"\deg f", r"\text{deg } f", r"\det A", r"\dim V",
    r"\sin\theta", r"\tan x", r"\frac{dy}{dx}", r"\vec{a}\cdot\vec{b}", r"\widehat{AB}", "x^*", r"\Delta x", r"a \oplus b",
    "m + n = 14 + 31", r"\sum_{i=1}^9 i", r"\lfloor x \rfloor", "x^2", "x + 1", r"\sqrt{x}", "x(x+1)", "45x - 45x + 45",
)  # fmt: skip
# Work that comes to it, or of which nobody can say.
WORK = (
    r"\binom{10}{2}", r"\dbinom{10}{2}", r"\sqrt{2025}", r"\sqrt[3]{91125}", "2025^{1/2}", r"3\sqrt9 \times 5", "6!/16",
    r"50\%\times 90", r"45\%", r"50\text{ eggs} - 5\text{ eggs}", "50 eggs - 5 eggs", r"9 \text{ apples} \times 5",
    r"50\% \text{ of } 90", r"10 \text{ choose } 2", r"[10-1]\times 5", r"\frac12 \times 90", r"90^\circ - 45^\circ",
    r"9 + 8 + \dots + 1", "90 : 2", r"1 \star 44", "45 apples", r"|{-45}|", r"\lfloor 45.5 \rfloor",
    r"\log_2 2^{45}", r"90\sin 30^\circ", r"\int_0^{45} 1 dx", r"\gcd(90, 135)", r"7^{100} \bmod 55", "45 (45)/45",
)  # fmt: skip
CONTRADICTIONS = (
    "46", "8", "44 + 2", "2x", "2AB", "2xy", "-x", "+x", r"\frac{1}{2}x", r"\frac12 x", r"2 \cdot x", "2 * x", "x/2",
    r"\frac{x}{2}", "x > 3", r"x \neq 3", r"x \geqslant 3", r"(x > 3)", r"\text{not } x", "x not", r"\text{isn't } x", "x?",
    r"x \approx 44", "46 apples", r"46 \text{ apples}", r"\sqrt{2024}", r"\sqrt{2026}", "46!", r"\sin 30^\circ", r"15\pi",
    r"\log_2 2^{46}", r"|{-46}|",
)  # fmt: skip
EQUATIONS = [
    *[("45", f"{side} = 45", RIGHT) for side in (*ASKED_FOR, *WORK)],
    ("45", r"2700 \text{ minutes} = 45 \text{ hours}", RIGHT),
    ("45", r"46 \text{ hours} = 45 \text{ hours}", NOT_A_NUMBER),
    ("45", "m + n = 46", WRONG),
    ("45", r"\sqrt{2116} = 46", WRONG),
    ("120", "5! = 120", RIGHT),
    ("120", r"5! = 5 \cdot 4 \cdot 3 \cdot 2 \cdot 1 = 120", RIGHT),
    ("120", "{}_6P_3 = 120", RIGHT),
    ("120", "5!=120", RIGHT),
    ("120", r"5!=5\cdot4\cdot3\cdot2\cdot1=120", RIGHT),
    ("120", r"6!=120", NOT_A_NUMBER),
    ("120", r"x!=120", NOT_A_NUMBER),
    ("120", r"119 != 120", NOT_A_NUMBER),
    ("2", "8^{1/3} = 2", RIGHT),
    ("2", "3! = 2", NOT_A_NUMBER),
    ("2", "2 + 1 = 2", NOT_A_NUMBER),
    ("7", "8 = 7", NOT_A_NUMBER),
    ("7", "x > 3 = 7", NOT_A_NUMBER),
    ("-1", r"e^{i\pi} = -1", RIGHT),
    ("-1", r"\cos \pi = -1", RIGHT),
    ("-1", r"\omega^3 = -1", RIGHT),
    ("0.5", r"\log_4 2 = \frac12", RIGHT),
    ("0.5", r"\sin 30^\circ = \frac{1}{2}", RIGHT),
    ("0.5", r"\cos(60^\circ) = 0.5", RIGHT),
    ("0.5", r"\sin 31^\circ = \frac{1}{2}", WRONG),
    (r"\frac{3}{56}", r"\frac{\binom{3}{1}}{\binom{8}{3}} = \frac{3}{56}", RIGHT),
    (r"50\%", r"\frac{1}{2} = 50\%", RIGHT),
    # Expressions.
    (r"3\sqrt{13}", r"|z| = 3\sqrt{13}", RIGHT),
    (r"3\sqrt{13}", r"\sqrt{117} = 3\sqrt{13}", RIGHT),
    (r"3\sqrt{13}", r"\sqrt{118} = 3\sqrt{13}", WRONG),
    (r"3\sqrt{13}", r"2x = 3\sqrt{13}", WRONG),
    (r"3\sqrt{13}", r"\text{not } x = 3\sqrt{13}", WRONG),
    (r"3\sqrt{13}", r"3\sqrt{13} = 3\sqrt{13}", RIGHT),
    (r"3\sqrt{13}", r"3\sqrt{13} = 3\sqrt{12}", WRONG),
    (r"25\pi", r"A = \pi r^2 = \pi(5)^2 = 25\pi", RIGHT),
    (r"25\pi", r"V = \frac13\pi r^2h = 25\pi", RIGHT),
    (r"25\pi", r"A = 24\pi = 25\pi", WRONG),
    (r"A = 25\pi", r"A = \pi r^2 = 25\pi", RIGHT),
    (r"\frac{x+2}{7}", r"f^{-1}(x) = \frac{x+2}{7}", RIGHT),
    (r"\frac{3\sqrt{3}}{4}", r"\text{Area of } \triangle ABC = \frac{3\sqrt{3}}{4}", RIGHT),
    (r"\frac{3\sqrt{3}}{4}", r"\frac{1}{2} a b \sin C = \frac{3\sqrt{3}}{4}", RIGHT),
    ("x^2 - 1", "(x-1)(x+1) = x^2 - 1", RIGHT),
    ("x^2 - 1", "x^2 = x^2 - 1", WRONG),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"A^{-1} = \begin{pmatrix}1&2\\3&4\end{pmatrix}", RIGHT),
    (
        r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
        r"\begin{pmatrix}0&1\\1&1\end{pmatrix}\begin{pmatrix}2&2\\1&2\end{pmatrix} = \begin{pmatrix}1&2\\3&4\end{pmatrix}",
        RIGHT,
    ),
    # Nothing is left to work out on the side that counts.
    (r"\frac{\sqrt{3}}{2}", r"\sin 60^\circ = \frac{\sqrt3}{2}", RIGHT),
    (r"\frac{\sqrt{3}}{2}", r"\sin(60^\circ) = \frac{\sqrt3}{2}", RIGHT),
    (r"\frac{\sqrt{3}}{2}", r"\sin 61^\circ = \frac{\sqrt3}{2}", WRONG),
    (r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt3}{2} = \sin 60^\circ", LEFT_TO_DO),
    (r"\frac{\sqrt{3}}{2}", r"\lim_{x\to0} f(x) = \frac{\sqrt{3}}{2}", RIGHT),
    (r"\frac{\pi}{4}", r"45^\circ = \frac{\pi}{4}", RIGHT),
    (r"\frac{\pi}{4}", r"\arctan 1 = \frac{\pi}{4}", RIGHT),
    (r"45^\circ", r"\arctan 1 = 45^\circ", RIGHT),
    (r"45^\circ", r"\frac{\pi}{4} = 45^\circ", RIGHT),
    (r"45^\circ", r"90^\circ - 44^\circ = 45^\circ", NOT_A_NUMBER),
    ("2x", "(x^2)' = 2x", RIGHT),
    (r"\frac{1+i}{2}", r"\frac{1}{1-i} = \frac{1+i}{2}", RIGHT),
    ("3i", "2i = 3i", WRONG),
    ("(3, 4)", r"\left(\frac{6}{2}, 4\right) = (3, 4)", RIGHT),
    ("(3, 4)", "(3, 5) = (3, 4)", WRONG),
    (r"\ln 2", r"\int_1^2 \frac1x dx = \ln 2", RIGHT),
    (r"\ln 2", r"\ln 2 = \int_1^2 \frac1x dx", LEFT_TO_DO),
    (r"\frac{n(n+1)}{2}", r"\sum_{k=1}^n k = \frac{n(n+1)}{2}", RIGHT),
    ("2x+3y=6", r"\lim_{x \to 0} 2x + 3y = 6", LEFT_TO_DO),
]  # fmt: skip

# Right answers with what was asked for: the value alone is enough, but of a curve.
GOLDS = [
    (r"f^{-1}(x) = \frac{x+2}{7}", r"\frac{x+2}{7}", RIGHT),
    (r"f^{-1}(x) = \frac{x+2}{7}", r"f^{-1}(x) = \frac{x+2}{7}", RIGHT),
    (r"f^{-1}(x) = \frac{x+2}{7}", r"y = \frac{x+2}{7}", RIGHT),
    (r"f^{-1}(x) = \frac{x+2}{7}", r"\frac{x-2}{7}", WRONG),
    (r"(f \circ g)(x) = 2x", "2x", RIGHT),
    (r"f(g(x)) = 2x", "2x", RIGHT),
    (r"\sin x = \frac12", r"\frac12", RIGHT),
    (r"\sin x = \frac12", "0.5", RIGHT),
    (r"\sin x = \frac12", "1", WRONG),
    (r"\cos^2 x = \frac12", r"\frac12", RIGHT),
    (r"\tan\alpha = 2", "2", RIGHT),
    (r"|z| = 5", "5", RIGHT),
    (r"|z| = 5", "-5", WRONG),
    (r"|x - 3| = 5", "5", WRONG),
    ("[ABC] = 6", "6", RIGHT),
    (r"\angle{A} = 60^\circ", r"60^\circ", RIGHT),
    (r"\angle{A} = 60^\circ", "60", RIGHT),
    (r"\frac{AB}{CD} = 2", "2", RIGHT),
    (r"\frac{dy}{dx} = 2x", "2x", RIGHT),
    ("BC^2 = 12", "12", RIGHT),
    (r"BC^2 = 12 \text{ cm}^2", "12", RIGHT),
    ("ab = 12", "12", RIGHT),
    ("m+n = 45", "45", RIGHT),
    ("m+n = 45", "m + n = 45", RIGHT),
    ("m+n = 45", "44", WRONG),
    ("a+b+c = 45", "45", RIGHT),
    ("a + b = 1 + i", "1 + i", RIGHT),
    ("3 + 4 = 7", "7", RIGHT),
    ("y = 3", "x = 3", WRONG),
    ("y = 3", "y = 3", RIGHT),
    ("n = 3", "m = 3", WRONG),
    ("n = 3", "m + n = 3", RIGHT),
    ("n = 2k + 1", "1 + 2k", RIGHT),
    (r"\text{Answer} = \text{yes}", "yes", RIGHT),
    ("p + q = pq", "pq", WRONG),
    ("x + y = 3", "3", WRONG),
    ("x^2 + y^2 = 25", "25", WRONG),
    ("2x + 3y = 6", "6", WRONG),
    ("5x - 7y + 11z + 4 = 0", "0", WRONG),
    (r"2\sin x + \cos x = 1", "1", WRONG),
    ("a < b = 3", "3", WRONG),
    ("x = 1, y = 7", "7", WRONG),
    ("y = 2x + 1", "x = 2y + 1", WRONG),
    ("y = 2x + 1", "f(x) = 2x + 1", RIGHT),
    ("y = 2x + 1", "f(x) = 1 + 2x", RIGHT),
    ("y = 2x + 1", "f(x) = 2x", WRONG),
    ("x^2 + y^2 = 1", "f(x) = 1", WRONG),
]


@pytest.mark.parametrize(("gold", "answer", "reason"), [*EQUATIONS, *GOLDS])
def test_equations(gold: str, answer: str, reason: str) -> None:
    [verdict] = judge_answers([gold], [f"\\boxed{{{answer}}}"])
    assert (verdict.reason, verdict.reward, verdict.error) == (reason, float(not reason), None)


@pytest.mark.parametrize("side", CONTRADICTIONS)
@pytest.mark.parametrize("gold", ["45", r"45\pi"])
def test_sides_that_say_otherwise(gold: str, side: str) -> None:
    [verdict] = judge_answers([gold], [f"\\boxed{{{side} = {gold}}}"])
    assert verdict.reason in (NOT_A_NUMBER, WRONG, LEFT_TO_DO)


@pytest.mark.parametrize(
    ("side", "reason"),
    [
        ("9^{9^{9^9}}", TOO_EXPENSIVE),
        ("10^{10^{10}}", TOO_EXPENSIVE),
        (r"\sin(" * 80 + "1" + ")" * 80, TOO_EXPENSIVE),
    ],
)
def test_work_that_takes_too_long_is_no_proof(side: str, reason: str) -> None:
    [verdict] = judge_answers(["45"], [f"\\boxed{{{side} = 45}}"])
    assert verdict.reason == reason != NOT_COMPARABLE


@pytest.mark.parametrize("side", ["x + y", r"\sqrt{2025}", "50 - 5", "|S|", r"\text{Total}"])
def test_most_sides_need_no_math_verify(side: str) -> None:
    assert settle("45", f"\\boxed{{{side} = 45}}") == RIGHT


def test_what_only_math_verify_can_tell_goes_there() -> None:
    assert settle("0.5", r"\boxed{\log_4 2 = 0.5}") == Comparison("1/2", "1/2", (r"\log_4 2",))
    assert settle("0.5", r"\boxed{\cos 60^\circ = 0.5}") == Comparison(
        "1/2", "1/2", (r"\cos \frac{60 \pi}{180}",)
    )


def test_an_equation_is_no_list() -> None:
    assert settle("45", r"\boxed{x + y = 45, x = 3}") == SEVERAL


def test_golds_that_are_values_with_names_are_numbers() -> None:
    for gold in ("m + n = 45", "|z| = 45", r"\sin x = 45"):
        number = read_gold(gold)
        assert number is not None
        assert number.variable == ""
    assert read_gold("x + y = 45") is None
