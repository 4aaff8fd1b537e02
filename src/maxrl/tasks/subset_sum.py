"""Subset-sum: given numbers and a target, name some of the numbers that add up to it.

The MaxRL-against-GRPO benchmark this project started from. Hard to guess, trivial to check, and most problems
have several answers, so it separates a policy that keeps its variety (pass@k) from one that only sharpens (pass@1).
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from re import compile as regex
from typing import Any, ClassVar, Literal, cast, get_args

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.base import NO_PROBLEM, Example, Prompt, Task, Verdict, Vocabulary
from maxrl.tasks.streams import Split, check_integer, problem_streams, random_stream

PromptFormat = Literal["chat", "compact"]

NO_NUMBERS = "no numbers"
NOT_INTEGERS = "not a list of integers"
NOT_AVAILABLE = "number not available"
WRONG_SUM = "wrong sum"
REASONS = (NO_NUMBERS, NOT_INTEGERS, NOT_AVAILABLE, WRONG_SUM)
"""Every reason a completion can be refused for, in the order in which they are looked for."""

# The largest problem allowed takes some 10 ms to solve; that benchmark stays below 13 numbers up to 50.
_MOST_ELEMENTS = 32
_LARGEST_VALUE = 1000
# Far above any problem made here; keeps truths brought by others clear of Python's limit on digits in str().
_LARGEST_IN_TRUTH = 10**9

# ASCII throughout: str.strip(), str.split(), int() and `\d` would let other scripts' digits and blanks in.
_BLANK = " \t\r\n\f\v"
_LIST_OF_INTEGERS = regex(r"[0-9]+(?:[ \t]*,[ \t]*[0-9]+|[ \t]+[0-9]+)*")
_FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")


@dataclass(frozen=True, kw_only=True)
class SubsetSum(Task):
    """Choose some of the listed numbers so that they add up to the target.

    Numbers are uniform in 1 … `max_value`. A hidden subset of 1 … `num_elements // 2` positions gives the
    target, so every problem has an answer; any other answer counts as well.

    Both prompt formats pose the same problems: the wording is no part of the random stream.

    Raises:
        InputError: on construction, when a parameter is out of range or of the wrong type.
    """

    name: ClassVar[str] = "subset_sum"

    num_elements: int = field(
        default=6, metadata={"help": f"how many numbers a problem lists (2 to {_MOST_ELEMENTS})"}
    )
    max_value: int = field(
        default=20, metadata={"help": f"the largest number a problem may list (2 to {_LARGEST_VALUE})"}
    )
    prompt_format: PromptFormat = field(
        default="chat",
        metadata={
            "help": "'chat': a question in words, for instruct models; "
            "'compact': numbers as words, for a small model made on the spot"
        },
    )

    def __post_init__(self) -> None:
        check_integer("num_elements", self.num_elements, 2, _MOST_ELEMENTS)
        check_integer("max_value", self.max_value, 2, _LARGEST_VALUE)
        if self.prompt_format not in get_args(PromptFormat):
            raise unknown_name("prompt_format", str(self.prompt_format), get_args(PromptFormat))

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        """Problems `start … start + count − 1` of the stream (`split`, `seed`).

        Raises:
            InputError: on an unknown split, or a count, seed or start that is not a whole number ≥ 0.
        """
        parameters = {"num_elements": self.num_elements, "max_value": self.max_value}
        streams = problem_streams(self.name, parameters, split, count, seed=seed, start=start)
        return [self._example(id_, rng) for id_, rng in streams]

    def _example(self, id_: str, rng: random.Random) -> Example:
        numbers = [rng.randint(1, self.max_value) for _ in range(self.num_elements)]
        # By position, without replacement: a number listed twice may be planted twice.
        planted = rng.sample(numbers, rng.randint(1, self.num_elements // 2))
        truth = {"numbers": numbers, "target": sum(planted)}
        return Example(id=id_, prompt=self._prompt(numbers, sum(planted)), truth=truth)

    def _prompt(self, numbers: Sequence[int], target: int) -> Prompt:
        if self.prompt_format == "compact":
            return f"{' '.join(map(str, numbers))} = {target} :"
        question = (
            f"Here are {len(numbers)} numbers: {', '.join(map(str, numbers))}\n"
            f"Choose some of them that add up to exactly {target}. Use each number at most as often as it is "
            "listed.\n"
            "Answer with ONLY the selected numbers separated by commas."
        )
        return [{"role": "user", "content": question}]

    @property
    def _separator(self) -> str:
        return ", " if self.prompt_format == "chat" else " "

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """Success (reward 1.0) when the completion names a subset that adds up to the target, else 0.0.

        Only the first line of the stripped completion counts. It must be numbers in ASCII digits, separated
        by a comma, by spaces or tabs, or by both, and nothing else: no sign, point, bracket, full stop, word
        or second comma in a row, so that no text can be read in two ways. Every number must be written as
        it is listed (`05` is not `5`) and is used up by being named: a number may be named as often as it is
        listed. Whatever follows the first line is ignored.

        One rule serves both prompt formats. A refusal's `reason` is one of `REASONS`. Never raises on any
        string; a `truth` that is no problem gives an error (reward None), never a zero.
        """
        problem = _read(truth)
        if isinstance(problem, str):
            return Verdict(success=False, reward=None, reason=NO_PROBLEM, error=problem)
        reason = _refusal(*problem, completion)
        return Verdict(success=not reason, reward=0.0 if reason else 1.0, reason=reason)

    def score_many(self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
        """A verdict per completion, as by `score`; its time is proportional to their length, and needs no guard."""
        return [self.score(truth, completion) for truth, completion in zip(truths, completions, strict=True)]

    def demonstration(self, example: Example) -> str:
        """A solution drawn uniformly from all subsets of positions that solve the example, in list order.

        Found from the truth alone. The draw depends on the example's id, so it is the same every time, and
        over many examples the demonstrations show short and long answers alike.

        Raises:
            InputError: when the truth is no problem, or no subset reaches the target.
        """
        problem = _read(example.truth)
        if isinstance(problem, str):
            raise InputError(f"example '{example.id}' cannot be demonstrated: {problem}")
        chosen = _solve(*problem, random_stream(self.name, "demonstration", example.id))
        if chosen is None:
            numbers, target = problem
            raise InputError(
                f"example '{example.id}' cannot be demonstrated: no subset of {list(numbers)} adds up to "
                f"{target}; use examples made by this task"
            )
        return self._separator.join(map(str, chosen))

    def vocabulary(self) -> Vocabulary | None:
        """Every word of the compact form: all numbers up to the largest target, `=` and `:`.

        None for chat, which needs a general tokenizer.
        """
        if self.prompt_format == "chat":
            return None
        largest = self.max_value * (self.num_elements // 2)
        return Vocabulary(words=(*map(str, range(1, largest + 1)), "=", ":"))

    def corruptions(self, example: Example, gold: str) -> Iterator[tuple[str, str]]:
        """Wrong subsets, and right ones in a spelling that could be read in two ways."""
        return _corruptions(example.truth, gold, self._separator)


def _read(truth: object) -> tuple[Sequence[int], int] | str:
    """The numbers and the target of a truth, or a sentence that says what is wrong with it."""
    if not isinstance(truth, Mapping):
        return f"truth must be a mapping with 'numbers' and 'target', got {type(truth).__name__}"
    given = cast("Mapping[str, object]", truth)
    numbers, target = given.get("numbers"), given.get("target")
    if not isinstance(numbers, list | tuple) or not numbers:
        return "truth['numbers'] must be a list of at least one whole number"
    values = cast("Sequence[object]", numbers)
    if not all(map(_is_positive_integer, values)):
        return f"truth['numbers'] must be whole numbers from 1 to {_LARGEST_IN_TRUTH}"
    if not _is_positive_integer(target):
        return f"truth['target'] must be a whole number from 1 to {_LARGEST_IN_TRUTH}"
    return cast("Sequence[int]", values), cast(int, target)


def _is_positive_integer(value: object) -> bool:
    # `type … is` and not isinstance: True is no number, and this runs for every number of every completion.
    return type(value) is int and 1 <= value <= _LARGEST_IN_TRUTH


def _refusal(numbers: Sequence[int], target: int, completion: str) -> str:
    """Why the completion is no answer, one of `REASONS`; "" when it is one."""
    line = completion.strip(_BLANK).partition("\n")[0].rstrip(_BLANK)
    if not line:
        return NO_NUMBERS
    if not _LIST_OF_INTEGERS.fullmatch(line):
        return NOT_INTEGERS
    # Compared as text: a number of a million digits costs no conversion (int() would raise on it).
    available = list(map(str, numbers))
    total = 0
    for word in line.replace(",", " ").split():
        if word not in available:
            return NOT_AVAILABLE
        available.remove(word)
        total += int(word)
    return "" if total == target else WRONG_SUM


def _solve(numbers: Sequence[int], target: int, rng: random.Random) -> list[int] | None:
    """A subset that adds up to `target`, uniform over all subsets of positions; None when there is none.

    Counts the solutions of every suffix, then walks the list and takes each number with the share of the
    remaining solutions that contain it. Polynomial, where listing all subsets would double per number.
    """
    ways: list[dict[int, int]] = [{0: 1}]  # ways[i][s]: subsets of the last i numbers that add up to s
    for number in reversed(numbers):
        shorter = ways[-1]
        longer = dict(shorter)
        for total, many in shorter.items():
            if total + number <= target:
                longer[total + number] = longer.get(total + number, 0) + many
        ways.append(longer)
    if target not in ways.pop():
        return None
    chosen: list[int] = []
    for number in numbers:
        shorter = ways.pop()
        without, with_ = shorter.get(target, 0), shorter.get(target - number, 0)
        if rng.randrange(without + with_) >= without:
            chosen.append(number)
            target -= number
    return chosen


def _corruptions(truth: Mapping[str, Any], gold: str, separator: str) -> Iterator[tuple[str, str]]:
    """Wrong completions near a right one, each under the name of what is wrong with it."""
    numbers: list[int] = truth["numbers"]
    target: int = truth["target"]
    chosen = gold.split(separator)
    for kind, wrong in _wrong_subsets(numbers, target, [int(number) for number in chosen]):
        yield kind, separator.join(map(str, wrong))
    yield "empty", ""
    yield "blank", " \n\t"
    yield "words", f"The answer is {gold}"
    yield "second line", f"Let me think.\n{gold}"
    yield "words after", f"{gold} is the answer"
    yield "equation", f"{' + '.join(chosen)} = {target}"
    yield "prompt repeated", f"{' '.join(map(str, numbers))} = {target} : {gold}"
    yield "plus signs", separator.join(f"+{number}" for number in chosen)
    yield "minus signs", separator.join(f"-{number}" for number in chosen)
    yield "decimals", separator.join(f"{number}.0" for number in chosen)
    yield "leading zeros", separator.join(f"0{number}" for number in chosen)
    yield "brackets", f"[{gold}]"
    yield "full stop", f"{gold}."
    yield "comma at the end", f"{gold},"
    yield "full-width digits", gold.translate(_FULL_WIDTH)
    if target > 9:  # int() reads "1_3" as 13
        yield "underscores", "_".join(str(target))


def _wrong_subsets(
    numbers: Sequence[int], target: int, gold: Sequence[int]
) -> Iterator[tuple[str, Sequence[int]]]:
    """Lists of integers that are no answer. Those that break the multiset rule keep the sum where they can,
    so that the rule alone can refuse them."""
    rng = random.Random(target)  # any generator does: which of several corruptions is tried does not matter
    yield "element dropped", gold[1:]
    yield "element repeated", [*gold, gold[-1]]
    other = next((number for number in numbers if number != gold[0]), None)
    if other is not None:
        yield "element changed", [other, *gold[1:]]
    yield "element off by one", [gold[0] + 1, *gold[1:]]
    yield "whole list", numbers  # never right: half of it at most is planted
    if target not in numbers:
        yield "target named", [target]
    foreign = next((value for value in range(1, target) if value not in numbers), None)
    if foreign is not None:
        yield "foreign number, sum kept", [foreign, target - foreign]
    for number, listed in Counter(numbers).items():
        others = [value for value in numbers if value != number]
        rest = _solve(others, target - number * (listed + 1), rng)
        if rest is not None:
            yield "number used too often, sum kept", [number] * (listed + 1) + rest
            break
