r"""What a line of arithmetic comes to, exactly: `3 \times 6`, `\frac{36}{2} - 1`, `2(3+4)`, `\binom{10}{2}`, `\sqrt{9}`."""

import math
from fractions import Fraction
from re import compile as regex

_TOKEN = regex(
    r"\s*+(?:(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]*+)?+|\.[0-9]++"
    r"|[-+*/^(){}\[\]!%]|\\sqrt\[[2-9]\]|\\(?:times|cdot|div|frac|binom|sqrt)(?![A-Za-z]))\s*+"
)
_SAME = {"\\times": "*", "\\cdot": "*", "\\div": "/", "{": "(", "}": ")", "[": "(", "]": ")"}
_BARE = [
    (regex(r"\\[dt]binom(?![A-Za-z])"), r"\\binom"),
    (regex(r"\\(frac|binom) ?([0-9]) ?([0-9])"), r"\\\1{\2}{\3}"),
    (regex(r"\\sqrt ?([0-9])"), r"\\sqrt{\1}"),
]
"""Commands whose arguments stand without braces."""
_DEEPEST = 20
_MOST_BITS = 10_000
"""Of a power; a few characters can ask for more than any memory holds."""
_MOST_ROOT_BITS = 50
"""Of what a root is taken of, so that a float is close enough to try."""
_LARGEST_FACTORIAL = 1000


def evaluate(text: str) -> Fraction | None:
    """The value of a text of numbers, signs and brackets; None where it is anything else, or divides by nothing."""
    for pattern, replacement in _BARE:
        text = pattern.sub(replacement, text)
    tokens: list[str] = []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return None
        position = token.end()
        tokens.append(_SAME.get(token[0].strip(), token[0].strip()))
    try:
        reader = _Reader(tokens)
        value = reader.sum(0)
    except (_NoArithmeticError, ZeroDivisionError):
        return None
    return None if reader.left() else value


class _NoArithmeticError(Exception):
    pass


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens[::-1]

    def left(self) -> str:
        """The next token, which stays; "" at the end."""
        return self._tokens[-1] if self._tokens else ""

    def _take(self) -> str:
        if not self._tokens:
            raise _NoArithmeticError
        return self._tokens.pop()

    def sum(self, depth: int) -> Fraction:
        if depth > _DEEPEST:
            raise _NoArithmeticError
        value = Fraction(0)
        sign = self._take() if self.left() in ("+", "-") else "+"
        while sign:
            term = self._product(depth)
            value += term if sign == "+" else -term
            sign = self._take() if self.left() in ("+", "-") else ""
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._power(depth)
        # No factor without a sign is a fraction: that would be a mixed number.
        while self.left() in ("*", "/", "(", "\\binom") or self.left().startswith("\\sqrt"):
            sign = self._take() if self.left() in ("*", "/") else "*"
            factor = self._power(depth)
            value = value * factor if sign == "*" else value / factor
        return value

    def _power(self, depth: int) -> Fraction:
        base = self._marked(depth)
        if self.left() != "^":
            return base
        self._take()
        power = self._marked(depth)
        size = base.numerator.bit_length() + base.denominator.bit_length()
        if size * abs(power) > _MOST_BITS or power.denominator >= 10:
            raise _NoArithmeticError
        return _root(base, power.denominator) ** power.numerator

    def _marked(self, depth: int) -> Fraction:
        """A number with the signs after it."""
        value = self._atom(depth)
        if self.left() == "!":
            self._take()
            value = Fraction(math.factorial(_small(value)))
        if self.left() == "%":
            self._take()
            value /= 100
        return value

    def _atom(self, depth: int) -> Fraction:
        token = self._take()
        if token in ("\\frac", "\\binom"):
            above, below = self._group(depth), self._group(depth)
            return above / below if token == "\\frac" else Fraction(math.comb(_small(above), _small(below)))
        if token.startswith("\\sqrt"):
            return _root(self._group(depth), int(token[6:-1] or 2))
        if token == "(":
            value = self.sum(depth + 1)
            return value if self._take() == ")" else self._fail()
        return Fraction(token.replace(",", "")) if token[0] in ".0123456789" else self._fail()

    def _group(self, depth: int) -> Fraction:
        return self._atom(depth) if self.left() == "(" else self._fail()

    def _fail(self) -> Fraction:
        raise _NoArithmeticError


def _small(value: Fraction) -> int:
    if value.denominator != 1 or not 0 <= value <= _LARGEST_FACTORIAL:
        raise _NoArithmeticError
    return int(value)


def _root(value: Fraction, degree: int) -> Fraction:
    """The root of a number that has one among the fractions."""
    if degree == 1:
        return value
    parts: list[int] = []
    for part in (value.numerator, value.denominator):
        if not 0 <= part < 2**_MOST_ROOT_BITS:
            raise _NoArithmeticError
        parts.append(round(part ** (1 / degree)))
    root = Fraction(*parts)
    if root**degree != value:
        raise _NoArithmeticError
    return root
