r"""Answers to problems of mathematics: where one stands in a text, what it says, and whether two are the same.

`settle` decides by text and exact arithmetic alone wherever it can, which is nearly always; `equal` is the second stage,
with `math-verify` and so with sympy, and belongs into a process that can be killed (`maxrl.tasks.workers`).
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from re import compile as regex
from typing import Any, Literal, cast

from maxrl.tasks.math.numbers import (
    LONGEST_ANSWER,
    Number,
    read_based,
    read_number,
    same_in_base,
    same_number,
)
from maxrl.tasks.math.text import brackets, canonical, clean, is_name, latex, offers_several, sides

AnswerFormat = Literal["any", "boxed", "hash"]

NO_ANSWER = "no answer in the asked form"
TOO_LONG = "answer too long"
SEVERAL = "several answers"
NOT_A_NUMBER = "not a plain number"
LEFT_TO_DO = "left to work out"
WRONG = "wrong answer"
TOO_EXPENSIVE = "answer too expensive to compare"
NOT_COMPARABLE = "answer cannot be compared"
REASONS = (NO_ANSWER, TOO_LONG, SEVERAL, NOT_A_NUMBER, LEFT_TO_DO, WRONG, TOO_EXPENSIVE, NOT_COMPARABLE)
"""Every reason a completion can be refused for, in the order in which they are looked for."""

_READ = 100_000
"""Characters of a completion that are read, from its end: an answer is the last thing it says."""


@dataclass(frozen=True)
class Comparison:
    """An answer that is right only if `equal` says so."""

    gold: str
    answer: str
    also: tuple[str, ...] = ()
    """Other sides of an answer that is an equation; each of them must be the gold."""


def settle(gold: str, completion: str, answer_format: AnswerFormat = "any") -> str | Comparison:
    r"""Why a completion does not give the answer `gold` (one of `REASONS`; "" where it does), or what is left to compare.

    The answer is what `extract_answer` finds, and it is one answer: `3 \text{ or } 4` is refused as several. Markup,
    spaces, a full stop at the end, currency signs and units do not count; after names the last side of an equation does
    (`x = 3`), and after arithmetic that comes to it exactly (`1 + 2 = 3`).

    A gold that is a number asks for a number written out, so that no problem is answered by stating it again (`5-2`,
    `\binom{5}{2}` and `\frac{6}{2}` are refused for 3, or 10, or 3): digits with or without thousands separators, decimals,
    `a/b`, `\frac{a}{b}`, mixed numbers, powers of ten. Numbers are compared exactly; a decimal with at least six places
    also stands for what it is the rounding of. A percentage equals the number before its sign and a hundredth of it, and
    `3 million` likewise 3 and 3000000. A gold in another base (`52_8`) asks for its digits.

    A gold of words (or a single letter, as of a choice) asks for the same words, in any case of the letters of words.
    Any other gold is an expression: the same text after normalisation, or a `Comparison`. For an equation like
    `2x + 3y = 6` the answer must be an equation, too.
    """
    answer = extract_answer(completion, answer_format)
    if not answer:
        return NO_ANSWER
    if len(answer) > LONGEST_ANSWER:
        return TOO_LONG
    wanted = _understood(gold)
    given = _as_set(wanted, clean(answer))
    if not wanted.several and offers_several(given):
        return SEVERAL
    if wanted.number is not None:
        number = read_number(given, working=True)
        if number is None:
            return NOT_A_NUMBER
        return "" if same_number(wanted.number, number) else WRONG
    if canonical(given) == canonical(wanted.text):
        return ""
    if wanted.based is not None:
        return "" if same_in_base(wanted.based, given) else WRONG
    if wanted.words:
        return "" if _words(given) == wanted.words else WRONG
    return _settle_expression(wanted, given)


def _settle_expression(wanted: "_Gold", given: str) -> str | Comparison:
    if _operations(given) - _operations(wanted.text):
        return LEFT_TO_DO
    parts = sides(given) if "=" in given and not offers_several(given) else [given]
    if (wanted.equation and "=" not in given) or _brackets_differ(wanted.text, parts[-1]):
        return WRONG
    # math-verify does not look at them (10_3 is 10_4), at least where they stand after digits.
    if (bases := _bases(given)) and bases != _bases(wanted.text):
        return WRONG
    if len(sides(wanted.text)) > 1:
        return Comparison(latex(wanted.text), latex(given))
    *also, last = [part for part in parts[:-1] if not is_name(part)] + parts[-1:]
    if not also and canonical(last) == canonical(wanted.text):
        return ""
    return Comparison(latex(wanted.text), latex(last), tuple(map(latex, also)))


def extract_answer(text: str, answer_format: AnswerFormat = "any") -> str | None:
    r"""The answer that a text gives, or None where it gives none in the form asked for.

    `boxed`: what stands in the last `\boxed{…}` or `\fbox{…}`, an outer one before those inside it; an empty text where the
    last box is cut off. `hash`: what stands after the last `####`, to the end of the line. `any`: the box if there is one,
    else the `####`, else the last line that begins with `A:`, `Answer:` or `Final answer:`, or the one below where nothing
    follows ("The answer is" does not count). So every text gives one answer at most, and several boxes are no several
    chances.
    """
    text = text[-_READ:]
    answer = _last_boxed(text) if answer_format != "hash" else None
    if answer is None and answer_format != "boxed" and "####" in text:
        answer = text.rpartition("####")[2].partition("\n")[0]
    if answer is None and answer_format == "any":
        line = None
        for line in _ANSWER_LINE.finditer(text):
            answer = line[1]
        if line is not None and not line[1].strip(" \t\r*_"):
            answer = text[line.end() :].lstrip().partition("\n")[0]
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


def equal(texts: Sequence[str]) -> bool:
    """Whether LaTeX expressions are the same to `math-verify`: the gold first, then what must each be equal to it.

    May hang or eat the memory on any of them. Its own time limits are off: they need the main thread.
    """
    from math_verify import LatexExtractionConfig, parse, verify  # slow, and of use to workers alone

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its limits are off
    # The whole text and nothing else: no number that stands somewhere in it.
    whole = [LatexExtractionConfig(boxed_match_priority=-1)]
    gold, *answers = (
        cast(Any, parse(f"${text}$", whole, fallback_mode="no_fallback", parsing_timeout=cast(Any, None)))
        for text in texts
    )
    return all(gold and answer and verify(gold, answer, timeout_seconds=None) for answer in answers)


# Where the answer stands.

# `\\.` keeps `\{` and `\}` from counting. One pass, whatever the text.
_BRACE = regex(r"\\(?:boxed|fbox)\s*+\{|\\.|[{}]", re.DOTALL)
_ANSWER_LINE = regex(
    r"^[ \t>*_]*+(?:A|(?i:(?:final[ \t]++)?answer))[ \t*_]*+:[ \t*_]*+"
    r"(?:(?i:(?:the[ \t]++)?(?:final[ \t]++)?answer[ \t]++is)(?![A-Za-z])[ \t]*+:?+)?+(.*+)$",
    re.MULTILINE,
)


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


# What it says.


@dataclass(frozen=True)
class _Gold:
    text: str
    number: Number | None
    based: tuple[int, int] | None
    words: str
    several: bool
    equation: bool
    """Whether it is an equation, and not a value with a name before it."""


@lru_cache(maxsize=4096)  # a group asks for the same gold again and again
def _understood(gold: str) -> _Gold:
    text = clean(gold)
    words = _words(text)
    if not (_PHRASE.fullmatch(words) or len(words) == 1):
        words = ""
    *before, _ = sides(text)
    several = offers_several(text)
    equation = not several and not all(map(is_name, before))
    return _Gold(text, read_number(text), read_based(text), words, several, equation)


_PHRASE = regex(r"(?=.*[A-Za-z]{3}|no$)[A-Za-z][A-Za-z .'-]*+")


def _words(text: str) -> str:
    words = " ".join(text.replace('"', " ").strip("()[]. ").split())
    return words.casefold() if len(words) > 1 else words


_BASE = regex(r"(?<=[0-9)])_(?:\{([^{}]*+)\}|([0-9A-Za-z]))")

# What a problem asks to be worked out, by kind: an answer may not leave it undone where the gold has none of that kind.
_OPERATIONS = {
    "integral": r"\\[io]+nt(?![A-Za-z])",
    "sum": r"\\sum(?![A-Za-z])",
    "product": r"\\(?:co)?prod(?![A-Za-z])",
    "limit": r"\\lim(?:sup|inf)?(?![A-Za-z])",
    "binomial": r"\\[dt]?binom(?![A-Za-z])|\\choose(?![A-Za-z])",
    "derivative": r"\}\s*+\{\s*+\"?d\"?\s*+[a-z]\s*+(?:\^\{?[0-9]\}?)?+\s*+\}|\\(?:partial|nabla)(?![A-Za-z])",
    "choice": r"\\(?:operatorname\*?\s*+\{\s*+)?(?:max|min|sup|inf|gcd|lcm|arg|det|tr|rank|sgn|Re|Im)(?![A-Za-z])|vmatrix",
    "rounding": r"\\[lr](?:floor|ceil)(?![A-Za-z])",
    "remainder": r"\\[bp]?mod(?![A-Za-z])",
    "logarithm": r"\\(?:log|ln|lg)(?![A-Za-z])",
    "trigonometry": r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?(?![A-Za-z])",
    "matrices": r"\\end\{[a-z]*matrix\}(?=\s*+\^|.*\\begin\{)",
}
_OPERATION = regex("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _OPERATIONS.items()))


def _bases(text: str) -> list[str]:
    return sorted((found[1] or found[2]).strip() for found in _BASE.finditer(text))


def _operations(text: str) -> set[str | None]:
    return {found.lastgroup for found in _OPERATION.finditer(text)}


def _as_set(wanted: _Gold, given: str) -> str:
    r"""An answer that lists the elements of a set, in braces as the gold has them: `1, 2` for `\{1, 2\}`."""
    plain = brackets(wanted.text) == "{}" and not regex(r"[;=]|\\[{}]|\\pm|\b(?:or|and|either)\b").search(
        given
    )
    return f"\\{{{given}\\}}" if plain and brackets(given) == "," else given


def _brackets_differ(gold: str, answer: str) -> bool:
    """Whether one is a point and the other a set, or they are intervals with other ends; a set may come without braces."""
    kinds = {brackets(sides(text)[-1] if brackets(text) != "," else text) for text in (gold, answer)} - {""}
    return len(kinds) > 1 and kinds != {"{}", ","}
