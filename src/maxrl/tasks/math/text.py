r"""Answers of mathematics as text: without what only changes their looks, in their sides and brackets, and as LaTeX again.

In a cleaned text, what stood in `\text{…}` and its like stands in quotation marks. Every regular expression here takes
linear time: no two parts that may repeat can match the same characters, or the first never gives any back (`*+`).
"""

from re import VERBOSE
from re import compile as regex

from maxrl.tasks.math.units import denies

_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-",
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\n": " ", "\r": " ", "\t": " ", "~": " ", '"': " ",
        "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ", "√": r"\sqrt ",
        "\u00c5": r"\AA ", "\u212b": r"\AA ", "’": "'",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "±": r"\pm ",
        "∅": r"\emptyset ", "°": r"^\circ ", "º": r"^\circ ", "²": "^2", "³": "^3",
        "€": "", "£": "", "¥": "", "₹": "", "¢": "", "`": "", "\0": " ",
    }
)  # fmt: skip
_LOOKS = "boxed|fbox|textbf|mathbf|boldsymbol|bm|underline|texttt|mathtt|emph|ensuremath"
_FONTS = "textbf|mathbf|bf|rm|it|sf|tt|[lL]arge|LARGE|[hH]uge|displaystyle|limits"
_MARKUP = [
    (regex(r",[ ]*+\\![ ]*+(?=[0-9]{3})"), ","),  # 11,\! 111
    (regex(r"(?<!\\)\\(?:left|right)[ ]*+\."), ""),
    (regex(r"(?<!\\)\\(?:[()\[\]!$]|(?:left|right|[bB]igg?[lr]?)(?![A-Za-z]))"), ""),
    (regex(r"(?<!\\)\\(?:[,;: ]|q?quad(?![A-Za-z]))"), " "),
    (regex(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (regex(r"\\(le|ge|ne)q(?![A-Za-z])"), r"\\\1"),
    (regex(r"\\varnothing(?![A-Za-z])"), r"\\emptyset"),
    (regex(r"\{,\}"), ","),
    (regex(r"\\([%&#_])"), r"\1"),
    (regex(r"\^\s*+\{\s*+\\circ\s*+\}|\\degree(?![A-Za-z])"), r"^\\circ "),
    (regex(r"\\(?:text)?color\s*+\{[^{}]*+\}"), ""),
    (regex(r"\{\\rm ([^{}]*+)\}"), r"\\text{\1}"),
    (regex(rf"\\(?:{_LOOKS})\s*+\{{([^{{}}]*+)\}}"), r"\1"),
    (regex(r"\\underline(?![A-Za-z])"), ""),  # around what has braces of its own
    (regex(r"\$|\*\*|__"), ""),
    (
        regex(r"\\(?:text|textrm|textit|textsf|textup|mathsf|mathrm|mathit|mbox|hbox|rm)\s*+\{([^{}]*+)\}"),
        r'"\1"',
    ),
    (regex(rf"\\(?:{_FONTS})(?![A-Za-z]) ?"), ""),
    (regex(r'"\s*+"'), ""),
    (regex(r" +"), " "),
]


def clean(text: str) -> str:
    """The text without what only changes how it looks."""
    text = text.translate(_CHARACTERS)
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    text = text.lstrip(" ,;:").rstrip(" .,;:")
    while text.endswith("\\\\"):  # a line break that nothing follows
        text = text[:-2].rstrip(" .,;:")
    quoted = text.startswith('"') and text.endswith('"') and text.count('"') == 2
    return text[1:-1].strip(" .") if quoted else text


_END_UNIT = regex(r'(?<=[^ ]) ?"[^"0-9]*+"(?:\^\{?[0-9]\}?)?$')


def canonical(text: str) -> str:
    """One text for spellings that differ in spaces, in braces around a single character and in a unit at the end."""
    text = _END_UNIT.sub("", text).replace('"', "")
    text = regex(r"(?<![0-9]) | (?![0-9])").sub("", text)
    return regex(r"(?<!\\)\{(\w)\}").sub(r"\1", text)


def latex(text: str) -> str:
    """A cleaned text as LaTeX again."""
    text = regex(r'"([A-Za-z])"').sub(r"\1", _END_UNIT.sub("", text))
    return regex(r'"([^"]*+)"').sub(r"\\text{\1}", text)


_SEVERAL = regex(
    r"(?<!-)\b(?:or|and|either)\b(?!-)|;|\\(?:pm|mp|lor|vee|land|wedge)(?![A-Za-z])|,(?![0-9]{3}(?![0-9]))"
)


def offers_several(text: str) -> bool:
    """Whether a cleaned text names more than one value outside all brackets: a list, an alternative, a plus-minus."""
    depth, outside = 0, ""
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character not in ")]}":
            outside += character
    return _SEVERAL.search(outside) is not None


# ≤, ≥, ≠ and := are no equations, nor is !=, but after a number: 5!=120.
_SIDES = regex(r"[(\[{]|[)\]}]|(?<![<>:=\\])(?<!(?<![0-9)])!)=(?!=)")


def sides(text: str) -> list[str]:
    """The sides of an equation, or chain of equations; the whole text where it is none. `P(X=2)` is no equation."""
    found, depth, start = list[str](), 0, 0
    for token in _SIDES.finditer(text):
        if token[0] == "=":
            if depth == 0:
                found.append(text[start : token.start()].strip())
                start = token.end()
        else:
            depth += 1 if token[0] in "([{" else -1
    return [*found, text[start:].strip()]


GREEK = (
    "alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|(?:var)?theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|(?:var)?phi|chi|psi"
    "|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega|ell"
)
_ITEM = rf'(?:-?(?:[0-9.]++|[A-Za-z]|\\(?:{GREEK})(?![A-Za-z]))|"[^"]*+")'
# `xy` and `abc` are products; `x(x+1)` is one, too, so that what a function is applied to is a plain thing.
_NAME = regex(
    rf"""(?:m?\\(?:angle|triangle)(?![A-Za-z])\s*+)?+
    (?:"[^"]*+"|\|[A-Z]{{2}}\||\\(?:overline|overrightarrow|vec|bar|hat)\s*+\{{[A-Za-z]++\}}|\\(?:{GREEK})(?![A-Za-z])
      |(?![abckmnpqrstxyz]{{2,3}}(?![A-Za-z]))[A-Za-z]++(?:[ -](?=[A-Za-z]{{2}})[A-Za-z]++)*+)
    '*+(?:_(?:\{{[^{{}}]*+\}}|"[^"]*+"|[A-Za-z0-9]))?+'*+
    (?:\(\s*+{_ITEM}(?:\s*+(?:[,;|<>=]|\\(?:cap|cup|mid|le|ge)(?![A-Za-z]))\s*+{_ITEM})*+\s*+\))?+""",
    VERBOSE,
)


def is_name(text: str) -> bool:
    r"""Whether what stands before an `=` names something: `x`, `f(x)`, `a_5`, `\angle ABC`, words, `(x, y)`; or is empty."""
    if text.startswith("(") and text.endswith(")"):
        return all(part.strip() and is_name(part.strip()) for part in text[1:-1].split(","))
    return not text or (_NAME.fullmatch(text) is not None and not denies(text))


_BRACKET = regex(r"\\[{}]|[()\[\]{},]")


def brackets(text: str) -> str:
    """Which brackets stand around a list: `{}`, `()`, `[]`, `(]`, `[)`; `,` for a list without, "" for what is no list."""
    if offers_several(text):
        return ","
    text, depth, commas = text.strip(), 0, 0
    tokens = list(_BRACKET.finditer(text))
    for token in tokens:
        kind = token[0][-1]
        if kind == ",":
            commas += depth == 1
            continue
        depth += 1 if kind in "([{" else -1
        if depth == 0 and token is not tokens[-1]:
            return ""
    if not tokens or tokens[0].start() != 0 or tokens[-1].end() != len(text):
        return ""
    ends = tokens[0][0], tokens[-1][0]
    if ends == ("\\{", "\\}"):
        return "{}"
    return "".join(ends) if commas and ends[0] in "([" and ends[1] in ")]" else ""
