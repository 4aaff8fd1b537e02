r"""What stands before an `=`: what was asked for, or a step of the work, which must come to what follows."""

from re import VERBOSE
from re import compile as regex

from maxrl.tasks.math.arithmetic import evaluate
from maxrl.tasks.math.numbers import Number
from maxrl.tasks.math.text import GREEK, canonical, is_name
from maxrl.tasks.math.units import denies

_FUNCTIONS = "(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|lg|deg|det"
# Brackets around what a function is applied to, an index or a set may hold an inequality: P(X > 3).
_WITHIN = regex(
    r"(?<=[A-Za-z}'])\((?:[^()]|\([^()]*+\))*+\)|(?<=[A-Za-z}'])\[[^\[\]]*+\]|_\{[^{}]*+\}|\\\{[^{}\\]*+\\\}"
)
_INEQUALITY = regex(r"[<>≈]|\\(?:n?le|n?ge|ne|lt|gt|not|ll|gg|approx)(?:q|qslant|slant)?(?![A-Za-z])|\?")
_COEFFICIENT = r"(?:[0-9][0-9.,]*+|\\frac ?(?:[0-9] ?[0-9]|\{[0-9]++\} ?\{[0-9]++\}))"
_MULTIPLE = regex(
    rf"(?:[-+] ?(?:{_COEFFICIENT})?+|{_COEFFICIENT}) ?(?:\\cdot(?![a-z])|\\times(?![a-z])|\*)?+ ?(?P<name>.*+)"
)
_LETTER = rf"(?:[A-Za-z]|\\(?:{GREEK})(?![A-Za-z]))"
_PART = regex(rf"[-+]?{_LETTER} ?/ ?[0-9]++|[-+]?\\frac ?\{{ ?{_LETTER} ?\}} ?\{{ ?[0-9]++ ?\}}")
_LETTERS = regex("[a-z]{2,3}")
# Units: what follows a number and is followed by a sign, a bracket or nothing. Not so `10 "choose" 2`.
_UNIT = regex(
    r"""(?<=[0-9)}%])(?:\ ?\^\\circ(?![A-Za-z])|\ ?"(?P<quoted>[^"]*+)"(?:\^(?:\{-?[0-9]\}|-?[0-9]))?+
      |\ (?P<bare>[A-Za-z]{3,}+(?:[ -][A-Za-z]{3,}+)*+))
    (?=\ ?(?:$|[-+*/)\]}]|\\(?:times|cdot|div)(?![A-Za-z])))""",
    VERBOSE,
)
_OF = regex(r' ?" ?of ?" ?')
_NO_LETTERS = regex(
    r"\\(?:begin|end) ?\{[a-z]*+\}|\\(?:operatorname\*?|mathbb|mathcal) ?\{[A-Za-z]*+\}|\\(?!"
    rf"(?:{GREEK})(?![A-Za-z]))[A-Za-z]++"
)
_VARIABLE = regex(rf'{_LETTER}|"[^"]*+"')
_ARGUMENT = r"\((?:[^()]|\([^()]*+\))*+\)"
_APPLIED = regex(
    rf"""[a-wA-Z]'*+(?:\^(?:\{{-?[0-9]++\}}|[0-9]))?+\ ?{_ARGUMENT}
    |\([a-zA-Z]\ ?(?:\\circ\ ?|[-+*])[a-zA-Z]\)\ ?{_ARGUMENT}
    |\\(?:{_FUNCTIONS})(?:\^(?:\{{-?[0-9]++\}}|[0-9]))?+\ ?(?:{_LETTER}|{_ARGUMENT}|\{{[^{{}}]*+\}})
    |\\\|?\|?[a-zA-Z]\\?\||\|[a-zA-Z]\|
    |\\frac\ ?\{{\ ?"?d"?\ ?[a-z]\ ?\}}\ ?\{{\ ?"?d"?\ ?[a-z]\ ?\}}""",
    VERBOSE,
)
"""A function of something, or how large something is: a value with a name, and no curve."""


def variables(text: str) -> set[str]:
    """The letters of a cleaned text that stand for something, and its words; no functions, no units after numbers."""
    return set(_VARIABLE.findall(_NO_LETTERS.sub(" ", _UNIT.sub("", text))))


def names_value(side: str, value: str) -> bool:
    """Whether a right answer `side = value` is the value, with what was asked for before it; else it is an equation."""
    if is_name(side) or _APPLIED.fullmatch(side):
        return True
    curve = _unequal(side) or variables(side) & {"x", "y", "z"}
    return not curve and not variables(value) - {"i", "e"}


def contradicts(side: str, last: str, number: Number | None = None) -> bool | None:
    """Whether a side of an answer denies the `last` one, whose `number` it must come to; None where `math-verify` must say.

    It does with an inequality sign or a word like "not", as a multiple of a name (`2x = 18`), and where no letter is in it
    that stands for something, so that it is the work and not what was asked for, and it comes to something else.
    """
    if not side or is_name(side):
        return False
    if denies(side) or _unequal(side):
        return True
    if canonical(side) == canonical(last):
        return False
    plain = _UNIT.sub("", _OF.sub(r" \\times ", side))
    if _is_multiple(plain):
        return True
    if letters := variables(plain):
        # An expression in the letters of the last one is the work, too: x^2 = x^2 - 1.
        # Not with imaginary numbers, which math-verify often takes for different ones.
        work = letters <= variables(last) and letters != {"i"} and "'" not in side
        return None if work else False
    value = evaluate(plain) if number else None
    if number is None or value is None:
        # 45 degrees are a quarter of pi.
        other_angle = ("\\circ" in side) != ("\\circ" in last) and not _TRIGONOMETRIC.search(side)
        return False if other_angle else None
    same = value in (number.value, number.value * number.scale) or (
        "%" in side and value * 100 == number.value
    )
    return not same and not _other_unit(side, last)


def _unequal(side: str) -> bool:
    return _INEQUALITY.search(_WITHIN.sub("", side)) is not None


def _is_multiple(side: str) -> bool:
    found = _MULTIPLE.fullmatch(side)
    rest = found["name"].strip() if found else ""
    named = bool(rest) and (is_name(rest) or _LETTERS.fullmatch(rest) is not None)
    return named or _PART.fullmatch(side) is not None


def _other_unit(side: str, last: str) -> bool:
    """Whether both have units and none in common: 120 minutes are 2 hours."""
    units, others = (
        {(found["quoted"] or found["bare"] or "").strip() for found in _UNIT.finditer(text)} - {""}
        for text in (side, last)
    )
    return bool(units and others) and not units & others


_TRIGONOMETRIC = regex(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z]|\^\{-1)")
_DEGREES = regex(r"(\{)? ?([0-9]++(?:\.[0-9]++)?) ?\^\\circ(?![A-Za-z])")


def comparable(side: str) -> str:
    r"""A side for `math-verify`, without units, and with angles in radians, as it takes `30^\circ` for 30."""
    if _TRIGONOMETRIC.search(side):
        side = _DEGREES.sub(r"\1 \\frac{\2 \\pi}{180}", side)
    return _UNIT.sub("", side)
