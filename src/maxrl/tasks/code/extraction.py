"""The code in a completion: a fenced block, or the whole of it where nothing is fenced.

A completion is read by itself. The prompt is never put before it, so that a signature or an example which the prompt shows
counts for nothing unless the model writes it, and a completion that repeats the prompt has no more than that to show.
"""

from collections.abc import Iterator, Mapping
from re import MULTILINE
from re import compile as regex
from typing import NamedTuple

from maxrl.tasks.code.problems import Language

LABELS: Mapping[Language, tuple[str, ...]] = {
    "rust": ("rust", "rs"),
    "python": ("python", "py", "python3"),
    "c": ("c",),
}
"""What a fence may be labelled with, in any case, for its block to be of a language."""

# Indented at will: blocks stand in lists. A backtick after the label makes it inline code, as in CommonMark. Possessive
# quantifiers: no line takes longer than it is long.
_FENCE = regex(r"^([ \t]*+)(`{3,}+|~{3,}+)([^`\n]*+)$", MULTILINE)
_WRAPPERS = ("markdown", "md")
"""Labels of a whole answer in a fence of its own, with the code in a fence inside."""


class _Block(NamedTuple):
    label: str
    closed: bool
    start: int
    end: int


def extract_code(completion: str, language: Language) -> str:
    """The code that a completion offers in `language`, without surrounding blank lines; "" where it offers none.

    Fences are lines of three or more backticks or tildes, closed by as many of the same or more that stand no deeper than
    the opening ones (what is indented, in a docstring for one, belongs to the code). Of all blocks that hold anything the
    last one counts that is complete and labelled with the language (see `LABELS`): models draft first and answer last.
    Where there is none, the last complete one without a label; then a last one that was never closed (a truncated
    completion), if its label is the language's or none. Blocks inside one that is labelled `markdown` count like any
    other. Where nothing is fenced, the whole completion is code. Blocks of another language alone are no code.

    Linear in the length of the completion; never raises on any text.
    """
    blocks = list(_blocks(completion, 0, len(completion)))
    if not blocks:
        return _trimmed(completion)
    labels = LABELS[language]
    for wanted, closed in ((labels, True), (("",), True), ((*labels, ""), False)):
        for block in reversed(blocks):
            if block.closed is closed and block.label in wanted and block.start < block.end:
                code = _trimmed(completion[block.start : block.end])
                if code:
                    return code
    return ""


def _blocks(text: str, start: int, end: int, *, inside: bool = False) -> Iterator[_Block]:
    """The fenced blocks, in order, each before those in it: a whole answer may stand in a fence, but no deeper."""
    opener, label, depth = "", "", 0
    for fence in _FENCE.finditer(text, start, end):
        indentation, ticks, info = fence.groups()
        if not opener:
            opener, label, depth, start = (
                ticks,
                info and _label(info),
                len(indentation.expandtabs()),
                fence.end() + 1,
            )
        elif ticks.startswith(opener) and not info.strip() and len(indentation.expandtabs()) <= depth:
            yield _Block(label, True, start, fence.start())
            if label in _WRAPPERS and not inside:
                yield from _blocks(text, start, fence.start(), inside=True)
            opener = ""
    if opener:
        yield _Block(label, False, start, end)
        if label in _WRAPPERS and not inside:
            yield from _blocks(text, start, end, inside=True)


def _label(info: str) -> str:
    """The language of a fence: the first word of what follows it, as in `rust,no_run` or `{.rust}`."""
    words = info.replace(",", " ").strip("{. ").split()
    return words[0].rstrip("}").lower() if words else ""


def _trimmed(code: str) -> str:
    """Without blank lines around it; the first line keeps its indentation, which Python would miss."""
    lines = code.split("\n")
    filled = [number for number, line in enumerate(lines) if line.strip()]
    return "\n".join(lines[filled[0] : filled[-1] + 1]) if filled else ""
