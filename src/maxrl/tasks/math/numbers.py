r"""Numbers as answers: written out in any of the usual forms, or in another base, and when two are the same."""

import re
from dataclasses import dataclass
from fractions import Fraction
from re import compile as regex

from maxrl.tasks.math.text import is_name, sides
from maxrl.tasks.math.units import SCALES, read_unit

LONGEST_ANSWER = 1000
"""Characters that an answer may have."""
_LEAST_PLACES = 6
"""Decimal places from which on a decimal may stand for what it is the rounding of, as in `math-verify`."""


@dataclass(frozen=True)
class Number:
    """A number as it was written."""

    value: Fraction
    scale: Fraction = Fraction(1)
    """What a word or sign after it multiplies it with (% by 1/100)."""
    places: int = 0
    """Decimal places written."""
    variable: str = ""
    """The single letter that it is the value of (x = 3); "" where there is none."""


_DIGITS = r"[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]{1,3}(?:[ ][0-9]{3})++(?![0-9])|[0-9]++"
_NUMBER = regex(
    rf"""(?P<sign>[+-]?)\s*+(?:
        (?:(?P<whole>[0-9]++)\s*+)?+\\frac\s*+
            (?:\{{\s*+(?P<top>-?[0-9]++)\s*+\}}|(?P<top1>[0-9]))\s*+
            (?:\{{\s*+(?P<bottom>-?[0-9]++)\s*+\}}|(?P<bottom1>[0-9]))
        |(?:(?P<whole1>[0-9]++)[ ]++)?(?P<top2>[0-9]++)\s*+/\s*+(?P<bottom2>[0-9]++)
        |10\s*+\^\s*+(?:\{{\s*+(?P<ten>[+-]?[0-9]{{1,3}})\s*+\}}|(?P<ten1>[+-]?[0-9]{{1,3}}))
        |(?P<digits>{_DIGITS}|(?=\.[0-9]))
            (?:\.(?P<decimals>[0-9]*+)(?:\\(?:overline|bar|dot)\s*+\{{\s*+(?P<repeated>[0-9]++)\s*+\}})?+)?+
            (?:\s*+(?:\\times|\\cdot|\*|x)\s*+10\s*+\^\s*+
                (?:\{{\s*+(?P<power>[+-]?[0-9]{{1,3}})\s*+\}}|(?P<power1>[+-]?[0-9]{{1,3}}))
               |[eE](?P<power2>[+-]?[0-9]{{1,3}}))?+
    )""",
    re.VERBOSE,
)
_WRAPPED = regex(r"([+-]?+)\s*+([({])(.*+)(?<=[)}])")
_MODULUS = regex(r" ?\\pmod ?(?:\{[0-9]++\}|[0-9]++)$")
_CLOSING = {"(": ")", "{": "}"}


def read_number(text: str, variable: str = "") -> Number | None:
    """The number that a cleaned text writes out, units aside, or None; of an equation's last side, with its `variable`."""
    if len(text) > LONGEST_ANSWER:
        return None
    text, negative = _MODULUS.sub("", text), False
    # One number in brackets is that number: (-5), {18}, -(-18). A set, \{18\}, is none, nor is a point, (0,100).
    while (
        (wrapped := _WRAPPED.fullmatch(text))
        and text[-1] == _CLOSING[wrapped[2]]
        and not (wrapped[2] == "(" and "," in text)
    ):
        negative ^= wrapped[1] == "-"
        text = wrapped[3][:-1].strip()
    match = _NUMBER.match(text)
    if match is None:
        return None
    scale, value = read_unit(text, match.end()), _value(match)
    if scale is None or value is None:
        return None
    exact = match["power"] or match["power1"] or match["power2"] or match["repeated"]
    places = 0 if exact else len(match["decimals"] or "")
    return Number(-value if negative ^ (match["sign"] == "-") else value, scale, places, variable)


def _value(match: re.Match[str]) -> Fraction | None:
    bottom = match["bottom"] or match["bottom1"] or match["bottom2"]
    if bottom is not None:
        return _fraction(
            match["whole"] or match["whole1"],
            int(match["top"] or match["top1"] or match["top2"]),
            int(bottom),
        )
    ten = match["ten"] or match["ten1"]
    if ten is not None:
        return Fraction(10) ** int(ten)
    digits = (match["digits"] or "").replace(",", "").replace(" ", "")
    decimals, repeated = match["decimals"] or "", match["repeated"]
    value = Fraction(int(f"{digits}{decimals}" or "0"), 10 ** len(decimals))
    if repeated:
        value += Fraction(int(repeated), (10 ** len(repeated) - 1) * 10 ** len(decimals))
    return value * Fraction(10) ** int(match["power"] or match["power1"] or match["power2"] or "0")


def _fraction(whole: str | None, top: int, bottom: int) -> Fraction | None:
    if bottom == 0 or top % bottom == 0:  # a whole number is not written out as a fraction
        return None
    if whole is None:
        return Fraction(top, bottom)
    return int(whole) + Fraction(top, bottom) if 0 < top < bottom else None


def same_number(gold: Number, answer: Number) -> bool:
    """Whether an answer is the number that the gold is; not when it is said to be the value of another variable."""
    if gold.variable and answer.variable not in ("", gold.variable):
        return False
    if gold.scale == answer.scale:
        return _close(gold, answer)
    # Where one of them has a sign or word that the other lacks, the problem may have asked for just that unit; not so
    # for dozens, which people do not leave out.
    bare = gold.value == answer.value and (
        answer.scale == 1 or (gold.scale == 1 and answer.scale != SCALES["dozen"])
    )
    return bare or gold.value * gold.scale == answer.value * answer.scale


def _close(gold: Number, answer: Number) -> bool:
    places = max(gold.places, answer.places)
    difference = abs(gold.value - answer.value)
    if difference == 0 or places < _LEAST_PLACES:
        return difference == 0
    # Half a unit of the last place, and small against the number itself: 0.000000 is no rounding of a millionth.
    return difference * 2 * 10**places <= 1 and difference * 10**5 <= abs(gold.value)


# Numbers in another base, which are the same where digits and base are.

_BASED = regex(
    r'(?P<sign>-?+) ?(?:\((?P<inner>[0-9A-Z ]++)\)|"?(?P<digits>[0-9A-Z]++(?: [0-9A-Z]++)*+)"?)'
    r'(?:_\{?\(?"?(?P<base>[0-9]{1,2}|[a-z]++)"?\)?\}?'
    r'|[ "(]++(?:in )?base[- "]++(?P<spoken>[0-9]{1,2}|[a-z]++)[")]*+)'
)
_BASE_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)


def read_based(text: str) -> tuple[int, int] | None:
    """The value and the base of a cleaned text like `52_8`, or None."""
    match = _BASED.fullmatch(_last(text))
    if match is None:
        return None
    digits = (match["inner"] or match["digits"]).replace(" ", "")
    base = _base(match["base"] or match["spoken"])
    value = _value_in_base(digits, base)
    # C_4 and A_{16} may be the fourth and the sixteenth of some letters.
    if value is None or not any(digit.isdigit() for digit in digits):
        return None
    return (-value if match["sign"] else value), base


def _base(text: str) -> int:
    if text.isdigit():
        return int(text)
    words = _BASE_WORDS.split()
    return words.index(text) if text in words else 0


def same_in_base(gold: tuple[int, int], answer: str) -> bool:
    """Whether a cleaned answer has the gold's digits, in its base or in none."""
    based = read_based(answer)
    if based is not None:
        return based == gold
    match = regex(r'(-?+)\s*+"?([0-9A-Z ,]++)"?').fullmatch(_last(answer))
    value = None if match is None else _value_in_base(regex("[ ,]").sub("", match[2]), gold[1])
    return match is not None and value is not None and (-value if match[1] else value) == gold[0]


def _last(text: str) -> str:
    *before, last = sides(text)
    return last if all(map(is_name, before)) else text


def _value_in_base(digits: str, base: int) -> int | None:
    try:
        return int(digits, base) if base and len(digits) <= LONGEST_ANSWER else None
    except ValueError:  # a digit, or a base, that there is not
        return None
