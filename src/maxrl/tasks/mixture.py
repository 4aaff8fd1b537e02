"""Several tasks as one, mixed in a fixed ratio.

A mixture is a task itself: what trains, evaluates and warms up on a task does so on a mixture, and its examples name
the part that they belong to.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from typing import Any, ClassVar, cast

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.base import NO_PROBLEM, Example, SelfCheck, Task, Verdict, Vocabulary
from maxrl.tasks.guard import judge
from maxrl.tasks.streams import Split, check_integer

LONGEST_CYCLE = 1000
"""Most problems until the order of the parts begins anew."""

_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
_SHOWN_FAILURES = 10


@dataclass(frozen=True, kw_only=True)
class Part:
    """A task within a mixture."""

    name: str
    """Of the part, in metrics and file names; that of the task where it is the only one of its kind."""
    task: Task
    share: int = 1
    """Problems of this part in each cycle."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"a task cannot be called {self.name!r}; give it a name of letters, digits, '_', '-' and '.'"
            )
        check_integer(f"share of task {self.name}", self.share, 1)


@dataclass(frozen=True, kw_only=True)
class Mixture(Task):
    """Tasks whose problems take turns in a fixed cycle: with shares 2 and 1 the first, the first, the second, and again.

    Problem i of a part is problem i of its own stream at the same seed. In training a part of finite size begins anew when
    it has been gone through, while the others go on; an evaluation ends where the first part does.

    An example's id is `"{part}/{id}"` and its truth `{"task": part, "truth": …}`; `task` names the part.

    Raises:
        InputError: on construction, when there are no parts, two of one name, or more than `LONGEST_CYCLE` in a cycle.
    """

    name: ClassVar[str] = "mixture"
    time_limit: ClassVar[float] = math.inf  # the parts have limits of their own

    parts: tuple[Part, ...] = field(metadata={"help": "the tasks with their shares"})

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("a mixture needs at least one task")
        names = [part.name for part in self.parts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"several tasks are called {', '.join(twice)}; give each a `name` of its own")
        if len(self.cycle) > LONGEST_CYCLE:
            raise InputError(
                f"the shares {[part.share for part in self.parts]} come to a cycle of {len(self.cycle)} problems, more than "
                f"{LONGEST_CYCLE}; take rounder ones"
            )

    @property
    def graded(self) -> bool:
        """Whether any part is."""
        return any(part.task.graded for part in self.parts)

    @property
    def cycle(self) -> tuple[Part, ...]:
        """The part of each problem, from which on it begins anew."""
        return tuple(chain.from_iterable([part] * part.share for part in self.parts))

    def part(self, name: object) -> Part:
        """The part of this name.

        Raises:
            InputError: there is none.
        """
        for part in self.parts:
            if part.name == name:
                return part
        raise unknown_name("task of the mixture", str(name), [part.name for part in self.parts])

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        """Problems `start … start + count − 1` of the cycle over the parts.

        Raises:
            InputError: as the parts do; or where some pose their problems as chat and others as plain text, which no data
                set and no tokenizer takes together.
        """
        check_integer("count", count, 0)
        check_integer("start", start, 0)
        drawn = {
            part.name: iter(
                _in_turns(
                    part.task, split, self._before(part, start), self._before(part, start + count), seed
                )
            )
            for part in self.parts
        }
        cycle = self.cycle
        parts = [cycle[number % len(cycle)] for number in range(start, start + count)]
        examples = [_as_part(part, next(drawn[part.name])) for part in parts]
        _check_prompts(examples)
        return examples

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """The verdict of the part that the truth names."""
        return self.score_many([truth], [completion])[0]

    def score_many(self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
        """Verdicts of the parts, each asked once and guarded (see `judge`): where one fails, the others do not."""
        verdicts: dict[int, Verdict] = {}
        rows: dict[str, list[int]] = defaultdict(list)
        truths_of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row, truth in enumerate(truths):
            read = self._read(truth)
            if isinstance(read, str):
                verdicts[row] = Verdict(success=False, reward=None, reason=NO_PROBLEM, error=read)
                continue
            part, own = read
            rows[part.name].append(row)
            truths_of[part.name].append(own)
        for name, numbers in rows.items():
            judged = judge(self.part(name).task, truths_of[name], [completions[row] for row in numbers])
            verdicts.update(zip(numbers, judged, strict=True))
        return [verdicts[row] for row in range(len(completions))]

    def demonstration(self, example: Example) -> str:
        """The part's demonstration.

        Raises:
            InputError: the part has none, or the example is none of this mixture.
        """
        part, own = self._own(example)
        return part.task.demonstration(own)

    def can_demonstrate(self) -> bool:
        """Whether all parts can."""
        return all(part.task.can_demonstrate() for part in self.parts)

    def vocabulary(self) -> Vocabulary | None:
        """The words of all parts; None where one of them needs a general tokenizer.

        Raises:
            InputError: a word ends the completions of one part and is an ordinary word of another.
        """
        vocabularies = [part.task.vocabulary() for part in self.parts]
        known = [vocabulary for vocabulary in vocabularies if vocabulary is not None]
        if len(known) < len(vocabularies):
            return None
        stop = dict.fromkeys(word for vocabulary in known for word in vocabulary.stop)
        for part, vocabulary in zip(self.parts, known, strict=True):
            ordinary = stop.keys() & (set(vocabulary.words) - set(vocabulary.stop))
            if ordinary:
                raise InputError(
                    f"{', '.join(sorted(ordinary))} would end the completions of task {part.name}, where it is an ordinary "
                    "word, because it ends those of another task; they cannot share a tiny model"
                )
        words = dict.fromkeys(word for vocabulary in known for word in vocabulary.words)
        return Vocabulary(words=tuple(words), stop=tuple(stop))

    def size(self, split: Split) -> int | None:
        """In an evaluation, the problems until a part has no other; None in training, where parts begin anew."""
        if split == "train":
            return None
        sizes = [part.task.size(split) for part in self.parts]
        offsets = [sum(part.share for part in self.parts[:number]) for number in range(len(self.parts))]
        ends = [
            size // part.share * len(self.cycle) + offset + size % part.share
            for part, size, offset in zip(self.parts, sizes, offsets, strict=True)
            if size is not None
        ]
        return min(ends, default=None)

    def description(self) -> dict[str, Any]:
        """The parts with their names, shares and descriptions."""
        parts = [
            {"name": part.name, "share": part.share, "task": part.task.description()} for part in self.parts
        ]
        return {"name": self.name, "parts": parts}

    def missing(self) -> str | None:
        """What the parts lack."""
        lacking = [f"task {part.name}: {what}" for part in self.parts if (what := part.task.missing())]
        return "; ".join(lacking) or None

    def picture(self, example: Example, completions: Sequence[str] = ()) -> str | None:
        """The part's picture."""
        part, own = self._own(example)
        return part.task.picture(own, completions)

    def corruptions(self, example: Example, gold: str) -> Iterator[tuple[str, str]]:
        """The part's corruptions, each under the name of the part, too."""
        part, own = self._own(example)
        for kind, text in part.task.corruptions(own, gold):
            yield f"{part.name}: {kind}", text

    def self_check(self, count: int = 1000, *, seed: int = 0) -> SelfCheck:
        """The proofs of the parts, which share `count` as they share the problems.

        Raises:
            InputError: a part has no demonstrations, or `count` is not a whole number ≥ 1.
        """
        check_integer("count", count, 1)
        counts = {part.name: self._before(part, count) for part in self.parts}
        checks = {
            part.name: part.task.self_check(counts[part.name], seed=seed)
            for part in self.parts
            if counts[part.name]
        }
        failures = [f"{name}: {failure}" for name, check in checks.items() for failure in check.failures]
        return SelfCheck(
            problems=sum(check.problems for check in checks.values()),
            accepted=sum(check.accepted for check in checks.values()),
            refused={
                f"{n}: {kind}": many for n, check in checks.items() for kind, many in check.refused.items()
            },
            tried={f"{n}: {kind}": many for n, check in checks.items() for kind, many in check.tried.items()},
            failures=tuple(failures[:_SHOWN_FAILURES]),
            failed_batches=sum(check.failed_batches for check in checks.values()),
        )

    def _before(self, part: Part, number: int) -> int:
        """Problems of a part among the first `number`."""
        cycles, rest = divmod(number, len(self.cycle))
        return cycles * part.share + sum(other is part for other in self.cycle[:rest])

    def _read(self, truth: object) -> tuple[Part, Mapping[str, Any]] | str:
        """The part and its own truth, or a sentence that says what is wrong."""
        given = cast("Mapping[str, Any]", truth) if isinstance(truth, Mapping) else dict[str, Any]()
        if not isinstance(given.get("truth"), Mapping):
            return "truth must be a mapping with 'task' and 'truth'"
        try:
            return self.part(given.get("task")), given["truth"]
        except InputError as error:
            return str(error)

    def _own(self, example: Example) -> tuple[Part, Example]:
        """The part and the example as the part made it."""
        read = self._read(example.truth)
        if isinstance(read, str):
            raise InputError(f"example '{example.id}' is none of this mixture: {read}")
        part, truth = read
        return part, replace(example, id=example.id.removeprefix(f"{part.name}/"), truth=truth, task="")


def whole_shares(shares: Mapping[str, object]) -> dict[str, int]:
    """The smallest whole numbers in the same ratio, exactly: decimals count as they are written.

    >>> whole_shares({"a": 0.5, "b": 0.2})
    {'a': 5, 'b': 2}

    Raises:
        InputError: a share is no number above 0, or the numbers come to more than `LONGEST_CYCLE`.
    """
    exact = {name: _fraction(name, share) for name, share in shares.items()}
    scale = math.lcm(*(share.denominator for share in exact.values()))
    whole = {name: int(share * scale) for name, share in exact.items()}
    common = math.gcd(*whole.values())
    whole = {name: share // common for name, share in whole.items()}
    if sum(whole.values()) > LONGEST_CYCLE:
        raise InputError(
            f"the shares {dict(shares)} are {' : '.join(map(str, whole.values()))} in whole numbers, which come to more "
            f"than {LONGEST_CYCLE}; take rounder ones"
        )
    return whole


def _fraction(name: str, share: object) -> Fraction:
    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 < share < math.inf:
        raise InputError(f"the share of task {name} must be a number above 0, but is {share!r}")
    return Fraction(str(share))


def _in_turns(task: Task, split: Split, start: int, stop: int, seed: int) -> list[Example]:
    """Problems `start … stop − 1` of a task, over and over where it has fewer."""
    size = task.size(split)
    examples: list[Example] = []
    while start < stop:
        if size == 0:
            raise InputError(f"task {task.name} has no problem in its {split} split")
        first = start if size is None else start % size
        count = stop - start if size is None else min(stop - start, size - first)
        examples += task.examples(split, count, seed=seed, start=first)
        start += count
    return examples


def _as_part(part: Part, example: Example) -> Example:
    return replace(
        example,
        id=f"{part.name}/{example.id}",
        truth={"task": part.name, "truth": dict(example.truth)},
        task=part.name,
    )


def _check_prompts(examples: Sequence[Example]) -> None:
    plain = {example.task for example in examples if isinstance(example.prompt, str)}
    chat = {example.task for example in examples} - plain
    if plain and chat:
        raise InputError(
            f"{', '.join(sorted(chat))} poses problems as a chat, {', '.join(sorted(plain))} as plain text: choose one form "
            "for all tasks (for subset_sum: prompt_format)"
        )
