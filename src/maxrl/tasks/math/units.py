r"""What may follow a number without changing it: units, names of what was counted, and the words that are neither."""

from fractions import Fraction
from re import VERBOSE
from re import compile as regex

MOST_UNIT_WORDS = 5
"""Words of a unit, without those that only join them; more of them are a sentence, and may say anything."""

SCALES = {
    "percent": Fraction(1, 100), "pct": Fraction(1, 100),
    "dozen": Fraction(12), "hundred": Fraction(100), "thousand": Fraction(10**3), "million": Fraction(10**6),
    "billion": Fraction(10**9), "trillion": Fraction(10**12),
}  # fmt: skip
"""Words after a number that multiply it."""

_DENIALS = (
    "or neither nor not no never isnt arent wasnt werent dont doesnt didnt cannot cant wont but except wrong incorrect "
    "false impossible"
)
_JOINTS = "per of the a in for to square cubic sq cu"
_CHANGES = (
    "minus plus over mod modulo factorial squared cubed root pi sqrt sin cos tan log ln negative base and either if unless "
    "excluding without too be above below under least most maybe perhaps possibly probably about approximately "
    "roughly around almost nearly hardly guess ignored cancelled reversed negated inverse inverted power powers "
    "exponent doubled tripled halved twice thrice hex hexadecimal octal binary bn mn lakh lakhs crore crores"
)
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety half halves"
)
_PARTS = "third fourth fifth sixth seventh eighth ninth tenth hundredth thousandth millionth"
_NOT_UNITS = {
    *_DENIALS.split(),
    *_CHANGES.split(),
    *_NUMBERS.split(),
    *_PARTS.split(),
    *(f"{part}s" for part in _PARTS.split()),
    "tens",
    *(f"{scale}s" for scale in SCALES),
}
"""Other words after a number that are no unit: another number, or what changes this one, doubts it or takes it back."""

_NOT_COUNTED = {*_JOINTS.split()}
_WORD = regex(r"[A-Za-z]++(?:-[A-Za-z]++|'[A-Za-z]++)*+")
_PRODUCT = regex(r"(?<![A-Za-z])(?!cc)[abcknpqxyz]{2}(?![A-Za-z])")
"""Two letters after a number that are variables, and no unit, where they stand in no `\\text{…}`: `18 xy`."""

_COMMAND = regex(r"\\(?:cdot|circ|frac)(?![A-Za-z])")
_DOUBTFUL = regex(r"(?:more|less|fewer|greater|larger|smaller) +than|(?<![A-Za-z])k(?![A-Za-z]|\"? ?\\Omega)")
"""Comparisons that may mean a sum or an inequality, and k for a thousand."""
_QUOTATION = regex(r'"[^"]*+"')
_BEGINNING = regex(r"\s*+(?:%|\^\\circ(?![A-Za-z]))?+(?:\s?+[CF](?![A-Za-z]))?+")
_POWER = r"(?:\^(?:\{-?[0-9]\}|-?[0-9]))?+"
_QUOTED = r'"(?:\^-?[0-9]|[^"0-9!?+=<>*])*+"'
# Bare letters that follow a number at once could be variables (3xy), so they are units only where they are known ones;
# after a blank they are words from two letters on, and single ones again only known units.
_UNIT = regex(
    rf"""\s*+(?:(?P<joint>/|\\cdot(?![A-Za-z]))\s*+)?+(?:
      {_QUOTED}{_POWER}
      |\\frac\s*+\{{\s*+{_QUOTED}{_POWER}\s*+\}}\s*+\{{\s*+{_QUOTED}{_POWER}\s*+\}}
      |\\(?:Omega|mu|AA)(?![A-Za-z])
      |(?:cm|mm|km|kg|mg|ft|mph|min|hrs?)(?![-A-Za-z])\.?+{_POWER}
      |(?<=[ /])(?:[A-Za-z]{{2,}}+(?:-[A-Za-z]{{2,}}+)*+\.?+|(?P<letter>[mLgshNJWVAK](?![A-Za-z]))){_POWER}
    )""",
    VERBOSE,
)


def denies(text: str) -> bool:
    """Whether a word in the text says that something is not so."""
    return any(word.replace("'", "") in _DENIALS.split() for word in _words(text))


def read_unit(text: str, start: int) -> Fraction | None:
    """What the unit that a cleaned text ends with, from `start` on, multiplies a number with; None where it is no unit."""
    beginning = _BEGINNING.match(text, start)
    position = first = beginning.end() if beginning else start
    while position < len(text):
        token = _UNIT.match(text, position)
        # `18/h` may be a quotient: after the number itself a single letter is a unit only where a blank comes first.
        if token is None or (position == first and token["joint"] and token["letter"]):
            return None
        position = token.end()
    words = _words(_COMMAND.sub(" ", text[start:]))
    if (
        sum(word not in _NOT_COUNTED for word in words) > MOST_UNIT_WORDS
        or any(map(_is_no_unit, words))
        or _DOUBTFUL.search(text, start)
        or _PRODUCT.search(_QUOTATION.sub(" ", text[start:]))
        or any(word in SCALES for word in words[1:])
    ):
        return None
    if "%" in text[start:]:
        return SCALES["percent"]
    return SCALES.get(words[0], Fraction(1)) if words else Fraction(1)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _is_no_unit(word: str) -> bool:
    # A compound is harmless as soon as one part of it is: half-dollars, four-leaf clovers, but not twenty-five.
    return all(part in _NOT_UNITS for part in word.replace("'", "").split("-"))
