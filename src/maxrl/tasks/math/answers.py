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

from maxrl.tasks.math.equations import comparable, contradicts, names_value
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
    """Other sides of an answer that is an equation; none of them may be something else than the gold."""


def settle(gold: str, completion: str, answer_format: AnswerFormat = "any") -> str | Comparison:
    r"""Why a completion does not give the answer `gold` (one of `REASONS`; "" where it does), or what is left to compare.

    The answer is what `extract_answer` finds, and it is one answer: `3 \text{ or } 4` is refused as several. Markup,
    spaces, a full stop at the end, currency signs and units do not count; of an equation the last side does, unless one
    before it says otherwise (`m + n = 3` and `1 + 2 = 3` give 3, `2x = 3` and `1 + 1 = 3` nothing).

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
        return _settle_number(wanted.number, given)
    if canonical(given) == canonical(wanted.text):
        return ""
    if wanted.based is not None:
        return "" if same_in_base(wanted.based, given) else WRONG
    if wanted.words:
        return "" if _words(given) == wanted.words else WRONG
    return _settle_expression(wanted, given)


def _settle_number(wanted: Number, given: str) -> str | Comparison:
    *before, last = sides(given)
    number = read_number(last, before[0] if before and len(before[0]) == 1 else "")
    if number is None:
        return NOT_A_NUMBER
    denied = [contradicts(side, last, number) for side in before]
    if True in denied:
        return NOT_A_NUMBER
    if not same_number(wanted, number):
        return WRONG
    value = str(number.value)
    also = tuple(latex(comparable(side)) for side, found in zip(before, denied, strict=True) if found is None)
    return Comparison(value, value, also) if also else ""


def _settle_expression(wanted: "_Gold", given: str) -> str | Comparison:
    parts = sides(given) if "=" in given and not offers_several(given) else [given]
    if _operations(given if wanted.equation else parts[-1]) - _operations(wanted.text):
        return LEFT_TO_DO
    if (wanted.equation and "=" not in given) or _brackets_differ(wanted.text, parts[-1]):
        return WRONG
    # math-verify does not look at them (10_3 is 10_4), at least where they stand after digits.
    if (bases := _bases(given)) and bases != _bases(wanted.text):
        return WRONG
    if len(sides(wanted.text)) > 1 and (wanted.equation or not _is_function_of(parts)):
        return Comparison(latex(wanted.text), latex(given))
    value, last = sides(wanted.text)[-1], parts[-1]
    denied = [contradicts(side, last) for side in parts[:-1]]
    if True in denied:
        return WRONG
    also = [latex(comparable(side)) for side, found in zip(parts[:-1], denied, strict=True) if found is None]
    if not also and canonical(last) == canonical(value):
        return ""
    return Comparison(latex(value), latex(last), tuple(also))


def _is_function_of(parts: list[str]) -> bool:
    """Whether an answer calls its value `f(x)`, which is as good as a gold's `y`."""
    return len(parts) == 2 and parts[0].endswith("(x)") and is_name(parts[0])


def extract_answer(text: str, answer_format: AnswerFormat = "any") -> str | None:
    r"""The answer that a text gives, or None where it gives none in the form asked for.

    `boxed`: what stands in the last `\boxed{…}` or `\fbox{…}`, an outer one before those inside it; an empty text where the
    last box is cut off. `hash`: what stands after the last `####`, to the end of the line. `any`: the box if there is one,
    else the `####`, else the last line that begins with `A:`, `Answer:` or `Final answer:`, or the one below where nothing
    follows. "The answer is" does not count, nor "I hope it is correct". So every text gives one answer at most, and several
    boxes are no several chances.
    """
    text = text[-_READ:]
    answer = _last_boxed(text) if answer_format != "hash" else None
    if answer is None and answer_format != "boxed" and "####" in text:
        answer = _lead_off(text.rpartition("####")[2].partition("\n")[0])
    if answer is None and answer_format == "any":
        line = None
        for line in _ANSWER_LINE.finditer(text):
            answer = line[1]
        if line is not None and not line[1].strip(" \t\r*_"):
            answer = _below(text[line.end() :])
    return None if answer is None else _HOPE.split(answer, maxsplit=1)[0].strip()


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
    """Whether LaTeX expressions are the same to `math-verify`: the gold first, then the answer.

    What follows must not be something else: another number, or another expression in the gold's letters. What it cannot
    read or compare is no obstacle. May hang or eat the memory on any of them. Its own time limits are off: they need the
    main thread.
    """
    from math_verify import LatexExtractionConfig, parse, verify  # slow, and of use to workers alone

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its limits are off
    # The whole text and nothing else: no number that stands somewhere in it.
    whole = [LatexExtractionConfig(boxed_match_priority=-1)]
    gold, answer, *also = (
        cast(Any, parse(f"${text}$", whole, fallback_mode="no_fallback", parsing_timeout=cast(Any, None)))
        for text in texts
    )
    if not (gold and answer and verify(gold, answer, timeout_seconds=None)):
        return False
    return all(not _is_comparable(gold[0], side) or verify(gold, side, timeout_seconds=None) for side in also)


def _is_comparable(gold: Any, side: list[Any]) -> bool:
    from sympy import Expr, Set, Tuple  # slow, as above

    if not side:
        return False
    letters = getattr(side[0], "free_symbols", set[Any]())
    if letters:
        return letters <= getattr(gold, "free_symbols", set[Any]())
    # No number: there is something in it that it has taken for a function, such as pi in `\pi(5)^2`.
    return isinstance(side[0], Set | Tuple) or (isinstance(side[0], Expr) and bool(side[0].is_number))


# Where the answer stands.

# `\\.` keeps `\{` and `\}` from counting. One pass, whatever the text.
_BRACE = regex(r"\\(?:boxed|fbox)\s*+\{|\\.|[{}]", re.DOTALL)
_ANSWER = r"(?:A|(?i:(?:final[ \t]++)?answer))[ \t*_]*+:[ \t*_]*+"
_IS = r"(?:(?i:(?:the[ \t]++)?(?:final[ \t]++)?answer[ \t]++is)(?![A-Za-z])[ \t]*+:?+)?+"
_ANSWER_LINE = regex(rf"^[ \t>*_]*+{_ANSWER}{_IS}(.*+)$", re.MULTILINE)
_LEAD = regex(rf"[ \t*_]*+(?:{_ANSWER})?+{_IS}")
_HOPE = regex(r"(?i:I hope it is correct)")


def _lead_off(line: str) -> str:
    """A line without "Answer: the answer is" before the answer."""
    lead = _LEAD.match(line)
    return line[lead.end() :] if lead else line


def _below(text: str) -> str:
    """The line that follows, or the one after where it only opens a formula."""
    line, _, rest = text.lstrip().partition("\n")
    if line.strip() in ("\\[", "$$"):
        line = rest.lstrip().partition("\n")[0]
    return _lead_off(line)


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
    several = offers_several(text)
    *before, last = [text] if several else sides(text)
    equation = not all(names_value(side, last) for side in before)
    variable = before[0] if before and len(before[0]) == 1 else ""
    # What a value is called does not matter, unless it may be a curve: y = 2x + 1.
    if before and not equation and variable not in ("x", "y", "z"):
        text = last
    words = _words(text)
    if not (_PHRASE.fullmatch(words) or len(words) == 1):
        words = ""
    number = None if equation else read_number(last, variable)
    return _Gold(text, number, read_based(text), words, several, equation)


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
    "gamma": r"\\Gamma ?\(",
    "factorial": "!",
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
