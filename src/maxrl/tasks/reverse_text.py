"""Reverse text: write a short text backwards, character by character.

The debugging task of prime-rl: quick to learn, verified in no time, and as long or short as one likes. Its environment
`reverse-text` takes short passages from a data set; here they are made of common words, or of letters.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from re import ASCII
from re import compile as regex
from typing import Any, ClassVar, Literal, cast, get_args

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.base import Example, Prompt, Task, Verdict, Vocabulary
from maxrl.tasks.streams import Split, check_integer, problem_streams

Content = Literal["words", "letters"]
PromptFormat = Literal["chat", "compact"]
Reward = Literal["exact", "overlap"]

NO_TAGS = "no answer in tags"
NO_TEXT = "empty answer"
TOO_LONG = "far too long"
NOT_REVERSED = "not the reversed text"
REASONS = (NO_TAGS, NO_TEXT, TOO_LONG, NOT_REVERSED)
"""Every reason a completion can be refused for, in the order in which they are looked for."""

# The system prompt of the environment reverse-text (PrimeIntellect-ai/verifiers); a policy warmed up there knows it.
_INSTRUCTION = "Reverse the text character-by-character. Put your answer in <reversed_text> tags."
_OPENING, _CLOSING = "<reversed_text>", "</reversed_text>"

NO_PROBLEM = "truth is no problem"
"""The `reason` of a verdict that is an error."""

_MOST_UNITS = {"words": 12, "letters": 64}
# Comparing texts takes up to the product of their lengths times the number of their matches: .7 s at these bounds.
_MOST_TIMES_AS_LONG = 4

_BLANK = " \t\r\n\f\v"
_BLANK_WORD = "_"
"""The blank as a word of the compact form, where blanks stand between words."""
_TEXT = regex(r"[A-Za-z0-9]+(?: [A-Za-z0-9]+)*", ASCII)
_LONGEST_IN_TRUTH = 128

_COMMON_WORDS = (
    "above after apple basket before below bird blue bread bridge bright brown candle carpet castle chair child circle "
    "city clean cloud coffee cold copper corner cousin dance dinner doctor door dream early earth eight empty evening "
    "family farmer field finger fire fish flower forest four friend garden gentle glass gold grass green hammer hand "
    "happy harbor heart heavy hill honey horse house island jacket journey kitchen ladder lake lamp large leaf letter "
    "light lion little long market meadow milk mirror moon morning mother mountain music narrow needle never night "
    "north ocean often old open orange over paper pencil people piano picture plate pocket quick quiet rain red river "
    "road round salt sand school seven ship silver simple sister slow small snow soft song south spring star stone "
    "story strong summer sun table tall teacher ten thin three tiger town tree twelve under uncle valley village "
    "violin voice walk wall warm water wheel white wide wind window winter wolf wood yellow young"
)
_WORDS = tuple(_COMMON_WORDS.split())


@dataclass(frozen=True, kw_only=True)
class ReverseText(Task):
    """Write the text backwards, character by character.

    A text is `min_length … max_length` words, or letters, every length equally often, drawn uniformly with repetition.
    Palindromes are not avoided. The wording and the reward are no part of the random stream: the same problems are
    posed in both prompt formats.

    Raises:
        InputError: on construction, when a parameter is out of range or of the wrong type.
    """

    name: ClassVar[str] = "reverse_text"

    content: Content = field(
        default="words",
        metadata={"help": "what texts are made of: common English 'words', or single 'letters'"},
    )
    min_length: int = field(
        default=3, metadata={"help": "the fewest words, or letters, of a text (at least 2 letters, 1 word)"}
    )
    max_length: int = field(
        default=8, metadata={"help": "the most words (up to 12), or letters (up to 64), of a text"}
    )
    alphabet: str = field(
        default="abcdefghijklmnopqrstuvwxyz",
        metadata={
            "help": "the letters that texts of letters are drawn from: ASCII letters and digits, each once"
        },
    )
    prompt_format: PromptFormat = field(
        default="chat",
        metadata={
            "help": "'chat': an instruction and the text, for instruct models; "
            "'compact': single characters as words, for a small model made on the spot"
        },
    )
    reward: Reward = field(
        default="exact",
        metadata={
            "help": "'exact': 1 for the reversed text, else 0; 'overlap': how much of it is there, as in prime-rl"
        },
    )

    def __post_init__(self) -> None:
        for parameter, given, allowed in (
            ("content", self.content, get_args(Content)),
            ("prompt_format", self.prompt_format, get_args(PromptFormat)),
            ("reward", self.reward, get_args(Reward)),
        ):
            if given not in allowed:
                raise unknown_name(parameter, str(given), allowed)
        check_integer("max_length", self.max_length, 2, _MOST_UNITS[self.content])
        check_integer("min_length", self.min_length, 2 if self.content == "letters" else 1, self.max_length)
        letters = cast("object", self.alphabet)
        if not isinstance(letters, str) or not _is_alphabet(letters):
            raise InputError(
                f"alphabet={letters!r} is not allowed; give at least two different ASCII letters or digits, each once"
            )

    @property
    def graded(self) -> bool:
        """Whether a part of the text earns a part of the reward."""
        return self.reward == "overlap"

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        """Problems `start … start + count − 1` of the stream (`split`, `seed`).

        Raises:
            InputError: on an unknown split, or a count, seed or start that is not a whole number ≥ 0.
        """
        parameters = {
            "content": self.content,
            "min_length": self.min_length,
            "max_length": self.max_length,
            "alphabet": self.alphabet if self.content == "letters" else "",
        }
        streams = problem_streams(self.name, parameters, split, count, seed=seed, start=start)
        return [self._example(id_, rng) for id_, rng in streams]

    def _example(self, id_: str, rng: random.Random) -> Example:
        length = rng.randint(self.min_length, self.max_length)
        if self.content == "letters":
            text = "".join(rng.choices(self.alphabet, k=length))
        else:
            text = " ".join(rng.choices(_WORDS, k=length))
        return Example(id=id_, prompt=self._prompt(text), truth={"text": text})

    def _prompt(self, text: str) -> Prompt:
        if self.prompt_format == "compact":
            return f"{_spelled(text)} :"
        return [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": text}]

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """Success when the answer is the text backwards, to the character: case, blanks and all.

        Chat: the answer stands between the last `</reversed_text>` and the last `<reversed_text>` before it; blanks around
        it are no part of it, and all that surrounds the tags is ignored. Compact: the whole completion is the answer,
        characters separated by single blanks, `_` for a blank; blanks around it are ignored.

        The reward is 1.0 for a success and 0.0 for a failure; with `reward="overlap"`, a failure earns 2·M / (length of
        answer + length of text), where M is the number of characters in the matching blocks that Python's `difflib` finds
        between the two. That is what the environment of prime-rl calls its ratio of the longest common subsequence; M may
        fall short of the longest. An answer over four times as long as the text earns nothing (there, at most .4).

        A refusal's `reason` is one of `REASONS`. Never raises on any string; a `truth` that is no problem gives an error
        (reward None, reason `NO_PROBLEM`), never a zero.
        """
        text = _read(truth)
        if text is None:
            return Verdict(
                success=False,
                reward=None,
                reason=NO_PROBLEM,
                error=f"truth['text'] must be words of ASCII letters and digits, {_LONGEST_IN_TRUTH} characters at most",
            )
        answer = self._answer(completion)
        reason = _refusal(text[::-1], answer)
        if not reason:
            return Verdict(success=True, reward=1.0)
        partial = self.reward == "overlap" and reason == NOT_REVERSED
        return Verdict(
            success=False, reward=_overlap(answer or "", text[::-1]) if partial else 0.0, reason=reason
        )

    def _answer(self, completion: str) -> str | None:
        """The text that a completion gives as its answer; None where it gives none."""
        if self.prompt_format == "compact":
            return _joined(completion.strip(_BLANK))
        before, closing, _ = completion.rpartition(_CLOSING)
        _, opening, answer = before.rpartition(_OPENING)
        return answer.strip(_BLANK) if closing and opening else None

    def demonstration(self, example: Example) -> str:
        """The text backwards, as the prompt format wants it.

        Raises:
            InputError: the truth is no problem.
        """
        text = _read(example.truth)
        if text is None:
            raise InputError(
                f"example '{example.id}' cannot be demonstrated: its truth holds no text made by this task"
            )
        return self._written(text[::-1])

    def _written(self, answer: str) -> str:
        return _spelled(answer) if self.prompt_format == "compact" else f"{_OPENING}{answer}{_CLOSING}"

    def vocabulary(self) -> Vocabulary | None:
        """Every character of the compact form, `_` for the blank, and `:`. None for chat."""
        if self.prompt_format == "chat":
            return None
        characters = (
            self.alphabet if self.content == "letters" else "".join(sorted({*"".join(_WORDS), _BLANK_WORD}))
        )
        return Vocabulary(words=(*characters, ":"))

    def corruptions(self, example: Example, gold: str) -> Iterator[tuple[str, str]]:
        """Texts that differ from the right one, and the right one in other forms."""
        text: str = example.truth["text"]
        yield "empty", ""
        yield "blank", " \n\t"
        for kind, wrong in _wrong_texts(text):
            if wrong != text[::-1]:
                yield kind, self._written(wrong)
        yield (
            "prompt continued",
            f"{gold} {gold}" if self.prompt_format == "compact" else f"The text is {text}.",
        )
        if self.prompt_format == "compact":
            yield "tags", f"{_OPENING}{text[::-1]}{_CLOSING}"
            yield "not spelled", text[::-1]
            yield "words before", f": {gold}"
        else:
            yield "no tags", text[::-1]
            yield "tag not closed", f"{_OPENING}{text[::-1]}"
            yield "tag not opened", f"{text[::-1]}{_CLOSING}"
            yield "tags changed places", f"{_CLOSING}{text[::-1]}{_OPENING}"
            yield "other tags", f"<answer>{text[::-1]}</answer>"
            yield "second thoughts", f"{gold} or {_OPENING}{text}x{_CLOSING}"
            yield "two answers", f"{_OPENING}{text[::-1]}, {text}{_CLOSING}"
            yield "quotes", f'{_OPENING}"{text[::-1]}"{_CLOSING}'


def _is_alphabet(letters: str) -> bool:
    return len(letters) >= 2 and letters.isascii() and letters.isalnum() and len(set(letters)) == len(letters)


def _read(truth: object) -> str | None:
    """The text of a truth; None where it is no problem."""
    text = cast("Mapping[str, object]", truth).get("text") if isinstance(truth, Mapping) else None
    whole = isinstance(text, str) and len(text) <= _LONGEST_IN_TRUTH and _TEXT.fullmatch(text)
    return text if isinstance(text, str) and whole else None


def _spelled(text: str) -> str:
    """The text in the compact form, a word per character."""
    return " ".join(text.replace(" ", _BLANK_WORD))


def _joined(spelled: str) -> str:
    """The text that the compact form spells, with `?` for each word that is no single character."""
    if not spelled:
        return ""
    return "".join(word if len(word) == 1 else "?" for word in spelled.split(" ")).replace(_BLANK_WORD, " ")


def _refusal(wanted: str, answer: str | None) -> str:
    """Why the answer is not the wanted text, one of `REASONS`; "" when it is."""
    if answer is None:
        return NO_TAGS
    if not answer:
        return NO_TEXT
    if len(answer) > _MOST_TIMES_AS_LONG * len(wanted):
        return TOO_LONG
    return "" if answer == wanted else NOT_REVERSED


def _overlap(answer: str, wanted: str) -> float:
    # The order of the two matters to difflib, and this is the environment's.
    return SequenceMatcher(None, answer, wanted).ratio()


def _wrong_texts(text: str) -> Iterator[tuple[str, str]]:
    """Texts near the reversed one, each after the name of what is wrong; of a palindrome, some are right."""
    backwards = text[::-1]
    middle = len(backwards) // 2
    yield "not reversed", text
    yield "words in reverse order", " ".join(reversed(text.split(" ")))
    yield "each word reversed", " ".join(word[::-1] for word in text.split(" "))
    yield "first character missing", backwards[1:]
    yield "last character missing", backwards[:-1]
    yield "last character twice", backwards + backwards[-1]
    yield (
        "neighbours swapped",
        backwards[: middle - 1] + backwards[middle] + backwards[middle - 1] + backwards[middle + 1 :],
    )
    yield "other case", backwards.swapcase()
    yield "blanks missing", backwards.replace(" ", "")
    yield "blanks doubled", backwards.replace(" ", "  ")
    yield "one character changed", ("b" if backwards[0] == "a" else "a") + backwards[1:]
    yield "full stop", f"{backwards}."
