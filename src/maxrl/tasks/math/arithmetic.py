r"""What a line of arithmetic comes to, exactly: `3 \times 6`, `\frac{36}{2} - 1`, `2(3+4)`."""

from fractions import Fraction
from re import compile as regex

_TOKEN = regex(
    r"\s*+(?:(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]*+)?+|\.[0-9]++"
    r"|[-+*/^(){}]|\\(?:times|cdot|div|frac)(?![A-Za-z]))\s*+"
)
_SAME = {"\\times": "*", "\\cdot": "*", "\\div": "/", "{": "(", "}": ")"}
_DEEPEST = 20
_MOST_BITS = 10_000
"""Of a power; a few characters can ask for more than any memory holds."""


def evaluate(text: str) -> Fraction | None:
    """The value of a text of numbers, signs and brackets; None where it is anything else, or divides by nothing."""
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
        while self.left() in ("*", "/", "("):
            sign = self._take() if self.left() != "(" else "*"
            factor = self._power(depth)
            value = value * factor if sign == "*" else value / factor
        return value

    def _power(self, depth: int) -> Fraction:
        base = self._atom(depth)
        if self.left() != "^":
            return base
        self._take()
        power = self._atom(depth)
        size = base.numerator.bit_length() + base.denominator.bit_length()
        if power.denominator != 1 or size * abs(power) > _MOST_BITS:
            raise _NoArithmeticError
        return base ** int(power)

    def _atom(self, depth: int) -> Fraction:
        token = self._take()
        if token == "\\frac":
            above, below = self._group(depth), self._group(depth)
            return above / below
        if token == "(":
            value = self.sum(depth + 1)
            return value if self._take() == ")" else self._fail()
        return Fraction(token.replace(",", "")) if token[0] in ".0123456789" else self._fail()

    def _group(self, depth: int) -> Fraction:
        return self._atom(depth) if self.left() == "(" else self._fail()

    def _fail(self) -> Fraction:
        raise _NoArithmeticError
