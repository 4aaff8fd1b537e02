r"""Answers to problems of mathematics: where one stands in a text, what it says, and whether two are the same.

`settle` decides by text and exact arithmetic alone wherever it can, which is nearly always; `equal` is the second stage,
with `math-verify` and so with sympy, and belongs into a process that can be killed (`maxrl.tasks.workers`).
"""

import logging
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from re import compile as regex
from typing import Any, Literal, cast

AnswerFormat = Literal["any", "boxed", "hash"]

NO_ANSWER = "no answer in the asked form"
TOO_LONG = "answer too long"
SEVERAL = "several answers"
NOT_A_NUMBER = "not a plain number"
WRONG = "wrong answer"
TOO_EXPENSIVE = "answer too expensive to compare"
NOT_COMPARABLE = "answer cannot be compared"
REASONS = (NO_ANSWER, TOO_LONG, SEVERAL, NOT_A_NUMBER, WRONG, TOO_EXPENSIVE, NOT_COMPARABLE)
"""Every reason a completion can be refused for, in the order in which they are looked for."""

LONGEST_ANSWER = 1000
"""Characters that an answer may have."""
_READ = 100_000
"""Characters of a completion that are read, from its end: an answer is the last thing it says."""


@dataclass(frozen=True)
class Comparison:
    """Two expressions that are the same only if `equal` says so."""

    gold: str
    answer: str


@dataclass(frozen=True)
class Number:
    """A number as it was written."""

    value: Fraction
    scale: Fraction | None
    """What a word or sign after it multiplies it with (% by 1/100); None where there is none."""
    places: int
    """Decimal places written."""


def settle(gold: str, completion: str, answer_format: AnswerFormat = "any") -> str | Comparison:
    r"""Why a completion does not give the answer `gold` (one of `REASONS`; "" where it does), or what is left to compare.

    The answer is what `extract_answer` finds, and it is one answer: `3 \text{ or } 4` is refused as several. Markup,
    spaces, a full stop at the end, currency signs and units do not count; of an equation the last side does (`x = 3`).

    A gold that is a number asks for a number written out, so that no problem is answered by stating it again (`5-2`,
    `\binom{5}{2}` and `\frac{6}{2}` are refused for 3, or 10, or 3): digits with or without thousands separators, decimals,
    `a/b`, `\frac{a}{b}`, mixed numbers, powers of ten. Numbers are compared exactly; a decimal with at least six places
    also stands for what it is the rounding of. A percentage equals the number before its sign and a hundredth of it, and
    `3 million` likewise 3 and 3000000.

    A gold of words (or a single letter, as of a choice) asks for the same words, in any case of the letters of words.
    Any other gold is an expression: the same text after normalisation, or a `Comparison`.
    """
    answer = extract_answer(completion, answer_format)
    if not answer:
        return NO_ANSWER
    if len(answer) > LONGEST_ANSWER:
        return TOO_LONG
    wanted, given = _understood(gold), _clean(answer)
    if not wanted.several and _offers_several(given):
        return SEVERAL
    if wanted.number is not None:
        number = read_number(given)
        if number is None:
            return NOT_A_NUMBER
        return "" if _same_number(wanted.number, number) else WRONG
    if _canonical(given) == _canonical(wanted.text):
        return ""
    if wanted.words:
        return "" if _words(given) == wanted.words else WRONG
    return Comparison(_latex(wanted.text), _latex(given))


def extract_answer(text: str, answer_format: AnswerFormat = "any") -> str | None:
    r"""The answer that a text gives, or None where it gives none in the form asked for.

    `boxed`: what stands in the last `\boxed{…}` or `\fbox{…}`, an outer one before those inside it; an empty text where the
    last box is cut off. `hash`: what stands after the last `####`, to the end of the line. `any`: the box if there is one,
    else the `####`, else the last line that begins with `A:`, `Answer:` or `Final answer:`. So every text gives one answer
    at most, and several boxes are no several chances.
    """
    text = text[-_READ:]
    answer = _last_boxed(text) if answer_format != "hash" else None
    if answer is None and answer_format != "boxed" and "####" in text:
        answer = text.rpartition("####")[2].partition("\n")[0]
    if answer is None and answer_format == "any":
        for line in _ANSWER_LINE.finditer(text):
            answer = line[1]
    return None if answer is None else answer.strip()


def gold_answer(text: str) -> str:
    """The ground truth in an answer column: what stands after its last `####`, or in its last box, or all of it."""
    for answer_format in ("hash", "boxed"):
        if answer := extract_answer(text, answer_format):
            return answer
    return text.strip()


def read_gold(gold: str) -> Number | None:
    """The number that a ground truth is, or None where it is words or an expression."""
    return _understood(gold).number


def equal(pair: tuple[str, str]) -> bool:
    """Whether two LaTeX expressions are the same to `math-verify`: the gold first, then the answer.

    May hang or eat the memory on either of them. Its own time limits are off: they need the main thread.
    """
    from math_verify import LatexExtractionConfig, parse, verify  # slow, and of use to workers alone

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its limits are off
    # The whole text and nothing else: no number that stands somewhere in it.
    whole = [LatexExtractionConfig(boxed_match_priority=-1)]
    gold, answer = (
        cast(Any, parse(f"${side}$", whole, fallback_mode="no_fallback", parsing_timeout=cast(Any, None)))
        for side in pair
    )
    return bool(gold and answer) and verify(gold, answer, timeout_seconds=None)


# Where the answer stands.

# `\\.` keeps `\{` and `\}` from counting. One pass, whatever the text.
_BRACE = regex(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_ANSWER_LINE = regex(r"^[ \t>*_]*(?:A|(?i:(?:final[ \t]+)?answer))[ \t*_]*:[ \t*_]*(.*)$", re.MULTILINE)


def _last_boxed(text: str) -> str | None:
    # Per open brace, where the content of a box begins; None for any other brace.
    opened: list[int | None] = []
    found, end = None, 0
    for token in _BRACE.finditer(text):
        if token[0] == "}":
            start = opened.pop() if opened else None
            if start is not None:
                found, end = text[start : token.start()], token.end()
        elif token[0] == "{":
            opened.append(None)
        elif token[0][-1] == "{" and len(token[0]) > 2:
            opened.append(token.end())
    cut_off = any(start is not None and start > end for start in opened)
    return "" if cut_off else found


# What the answer says. In a cleaned text, what stood in \text{…} and its like stands in quotation marks.

_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-",
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\n": " ", "\r": " ", "\t": " ", "~": " ", '"': " ",
        "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ",
        "°": r"^\circ ", "º": r"^\circ ", "²": "^2", "³": "^3",
        "€": "", "£": "", "¥": "", "₹": "", "`": "", "\0": " ",
    }
)  # fmt: skip
_MARKUP = [
    (regex(r"(?<!\\)\\(?:left|right)[ ]*\."), ""),
    (regex(r"(?<!\\)\\(?:[()\[\]!$]|(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![A-Za-z]))"), ""),
    (regex(r"(?<!\\)\\(?:[,;: ]|q?quad(?![A-Za-z]))"), " "),
    (regex(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (regex(r"\\(le|ge|ne)q(?![A-Za-z])"), r"\\\1"),
    (regex(r"\{,\}"), ","),
    (regex(r"\\([%&#_])"), r"\1"),
    (regex(r"\^\s*\{\s*\\circ\s*\}|\\degree(?![A-Za-z])"), r"^\\circ "),
    (regex(r"\\(?:boxed|fbox|textbf|mathbf|boldsymbol|bm)\s*\{([^{}]*)\}"), r"\1"),
    (regex(r"\$|\*\*|__"), ""),
    (regex(r"\\(?:text|textrm|textit|textsf|mathrm|mathit|mbox|hbox)\s*\{([^{}]*)\}"), r'"\1"'),
    (regex(r'"\s*"'), ""),
    (regex(r" +"), " "),
]


def _clean(text: str) -> str:
    """The text without what only changes how it looks."""
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    text = text.lstrip(" ,;:").rstrip(" .,;:")
    quoted = text.startswith('"') and text.endswith('"') and text.count('"') == 2
    return text[1:-1].strip(" .") if quoted else text


_DIGITS = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,3}(?:[ ][0-9]{3})+|[0-9]+"
_NUMBER = regex(
    rf"""(?P<sign>[+-]?)\s*(?:
        (?:(?P<whole>[0-9]+)\s*)?\\frac\s*
            (?:\{{\s*(?P<top>-?[0-9]+)\s*\}}|(?P<top1>[0-9]))\s*(?:\{{\s*(?P<bottom>[0-9]+)\s*\}}|(?P<bottom1>[0-9]))
        |(?:(?P<whole1>[0-9]+)[ ]+)?(?P<top2>[0-9]+)\s*/\s*(?P<bottom2>[0-9]+)
        |10\s*\^\s*(?:\{{\s*(?P<ten>[+-]?[0-9]{{1,3}})\s*\}}|(?P<ten1>[+-]?[0-9]{{1,3}}))
        |(?P<digits>{_DIGITS}|(?=\.[0-9]))(?:\.(?P<decimals>[0-9]*))?
            (?:\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{{\s*(?P<power>[+-]?[0-9]{{1,3}})\s*\}}|(?P<power1>[+-]?[0-9]{{1,3}}))
               |[eE](?P<power2>[+-]?[0-9]{{1,3}}))?
    )(?P<unit>.*)""",
    re.VERBOSE,
)
# Bare letters that follow a number at once could be variables (3xy), so they are units only where they are known ones.
_WORD = r"(?:\"(?:[^\"0-9]|\^-?[0-9])*\"|[ ][A-Za-z]{2,}\.?|(?:cm|mm|km|kg|mg|ft|mph|min|hrs?)(?![A-Za-z]))"
_UNIT = regex(
    rf"\s*(?:%|\^\\circ)?(?:[ ]?[CF](?![A-Za-z]))?(?:\s*(?:/|\\cdot)?{_WORD}(?:\^\{{?-?[0-9]\}}?)?)*\s*"
)
_SCALES = {
    "percent": Fraction(1, 100), "pct": Fraction(1, 100),
    "hundred": Fraction(100), "thousand": Fraction(10**3), "million": Fraction(10**6),
    "billion": Fraction(10**9), "trillion": Fraction(10**12),
}  # fmt: skip
# Words after a number that are no unit: another number, or something done to this one.
_NO_UNIT = regex(
    r"""\b(?:or|and|either|nor|not|if|no|minus|plus|over|mod|modulo|factorial|squared|cubed|root|pi|sqrt|sin|cos|tan|log|ln
    |half|halves|(?:third|(?:four|fif|six|seven|eigh|nin|ten|hundred|thousand|million)th)s?|zero|one|two|three|four|five
    |six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen
    |(?:twen|thir|for|fif|six|seven|eigh|nine)ty)\b""",
    re.VERBOSE | re.IGNORECASE,
)
# Of an equation the last side is the answer; ≤, ≥, ≠ and := are no equations.
_EQUALS = regex(r"(?<![<>!:=\\])=(?!=)")
_LEAST_PLACES = 6
"""Decimal places from which on a decimal may stand for what it is the rounding of, as in `math-verify`."""


def read_number(text: str) -> Number | None:
    """The number that a cleaned text writes out, units aside, or None."""
    match = _NUMBER.fullmatch(_EQUALS.split(text)[-1].strip())
    if match is None or not _UNIT.fullmatch(match["unit"]):
        return None
    unit, value = match["unit"], _value(match)
    if value is None or _NO_UNIT.search(unit):
        return None
    word = re.search(r"[a-z]+", unit.lower())
    scale = _SCALES.get(word[0]) if word else None
    return Number(
        -value if match["sign"] == "-" else value,
        Fraction(1, 100) if "%" in unit else scale,
        len(match["decimals"] or "") if match["power"] is match["power1"] is match["power2"] is None else 0,
    )


def _value(match: re.Match[str]) -> Fraction | None:
    bottom = match["bottom"] or match["bottom1"] or match["bottom2"]
    if bottom is None:
        ten = match["ten"] or match["ten1"]
        if ten is not None:
            return Fraction(10) ** int(ten)
        digits = (match["digits"] or "").replace(",", "").replace(" ", "")
        power = match["power"] or match["power1"] or match["power2"] or "0"
        decimals = match["decimals"] or ""
        return Fraction(int(f"{digits}{decimals}"), 10 ** len(decimals)) * Fraction(10) ** int(power)
    top, below = int(match["top"] or match["top1"] or match["top2"]), int(bottom)
    whole = match["whole"] or match["whole1"]
    if below == 0 or top % below == 0:  # a whole number is not written out as a fraction
        return None
    if whole is None:
        return Fraction(top, below)
    return int(whole) + Fraction(top, below) if 0 < top < below else None


def _same_number(gold: Number, answer: Number) -> bool:
    if gold.scale == answer.scale:
        return _close(gold, gold.value, answer, answer.value)
    scaled = [number.value * (number.scale or 1) for number in (gold, answer)]
    # Where one of them has a sign or word that the other lacks, the problem may have asked for just that unit.
    bare = None in (gold.scale, answer.scale) and gold.value == answer.value
    return bare or scaled[0] == scaled[1]


def _close(gold: Number, wanted: Fraction, answer: Number, given: Fraction) -> bool:
    places = max(gold.places, answer.places)
    difference = abs(wanted - given)
    if difference == 0 or places < _LEAST_PLACES:
        return difference == 0
    # Half a unit of the last place, and small against the number itself: 0.000000 is no rounding of a millionth.
    return difference * 2 * 10**places <= 1 and difference * 10**5 <= abs(wanted)


@dataclass(frozen=True)
class _Gold:
    text: str
    number: Number | None
    words: str
    several: bool


@lru_cache(maxsize=4096)  # a group asks for the same gold again and again
def _understood(gold: str) -> _Gold:
    text = _clean(gold)
    words = _words(text)
    if not (_PHRASE.fullmatch(words) or len(words) == 1):
        words = ""
    return _Gold(text, read_number(text), words, _offers_several(text))


_PHRASE = regex(r"(?=.*[A-Za-z]{3}|no$)[A-Za-z][A-Za-z .'-]*")


def _words(text: str) -> str:
    words = " ".join(text.replace('"', " ").strip("()[]. ").split())
    return words.casefold() if len(words) > 1 else words


def _offers_several(text: str) -> bool:
    """Whether a cleaned text names more than one value outside all brackets: a list, an alternative, a plus-minus."""
    depth, outside = 0, ""
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character not in ")]}":
            outside += character
    return _SEVERAL.search(outside) is not None


_SEVERAL = regex(r"\b(?:or|and|either)\b|;|\\(?:pm|mp|lor|vee|land|wedge)(?![A-Za-z])|,(?![0-9]{3}(?![0-9]))")


def _canonical(text: str) -> str:
    """One text for spellings that differ in spaces, in braces around a single character and in a unit at the end."""
    text = _END_UNIT.sub("", text).replace('"', "")
    text = regex(r"(?<![0-9]) | (?![0-9])").sub("", text)
    return regex(r"(?<!\\)\{(\w)\}").sub(r"\1", text)


_END_UNIT = regex(r'(?<=[^ ]) *"[^"0-9]*"(?:\^\{?[0-9]\}?)?$')


def _latex(text: str) -> str:
    """A cleaned text as LaTeX again."""
    text = regex(r'"([A-Za-z])"').sub(r"\1", _END_UNIT.sub("", text))
    return regex(r'"([^"]*)"').sub(r"\\text{\1}", text)
