"""reasoning_gym: the generators of that package, and their verifiers, behind one adapter (extra `tasks`).

The package's verifiers are not made for text that is optimised against them, so they are not taken at their word:

- They run in worker processes with limits on CPU time and memory. Some evaluate the answer as a Python or sympy
  expression, where `9**9**9` never ends.
- An answer that is evaluated must first match a grammar of literals or formulas (`_GRAMMARS`): `eval` runs anything.
- Generators whose verifier accepts wrong answers are refused by name (`REFUSED`).
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from re import ASCII
from re import compile as regex
from typing import Any, ClassVar, Literal, cast, get_args

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.base import Example, Task, Verdict
from maxrl.tasks.reasoning_gym.package import (
    WITHOUT_GOLD,
    check_generator,
    check_hashes,
    make_entry,
    missing_package,
    options,
    right_answer,
)
from maxrl.tasks.streams import Split, problem_streams
from maxrl.tasks.workers import WorkerFailure, WorkerPool

Reward = Literal["exact", "score"]

NO_TAGS = "no answer in tags"
TOO_LONG = "answer far too long"
NOT_READABLE = "answer not of the expected form"
TOO_EXPENSIVE = "answer too expensive to check"
WRONG = "wrong answer"
REASONS = (NO_TAGS, TOO_LONG, NOT_READABLE, TOO_EXPENSIVE, WRONG)
"""Every reason a completion can be refused for, in the order in which they are looked for."""

NO_PACKAGE = "package not installed"
NO_PROBLEM = "truth is no problem"
VERIFIER_FAILED = "verifier failed"
NO_SCORE = "verifier gave no score"
FAILURES = (NO_PACKAGE, NO_PROBLEM, VERIFIER_FAILED, NO_SCORE)
"""Every `reason` of a verdict that is an error."""

_LISTS = regex(r"[A-Z0-9_\[\],'\"\s-]*", ASCII)  # no word of Python's has capitals only
_FORMULA = regex(
    r"(?:[0-9]{1,9}(?:\.[0-9]{0,9})?(?![0-9A-Za-z])|\.[0-9]{1,9}(?![0-9A-Za-z])"
    r"|(?:a?(?:sin|cos|tan|cot|sec|csc)h?|exp|log|ln|sqrt|Abs|pi|[a-z]|[CEX])(?![A-Za-z0-9_.])"
    r"|[-+*/()\s])*+",
    ASCII,
)
_GRAMMARS = {
    # Given to eval().
    "binary_matrix": _LISTS,
    "n_queens": _LISTS,
    "spiral_matrix": _LISTS,
    "string_insertion": _LISTS,
    # Given to sympy's parse_expr(), which is eval() with some care.
    "countdown": regex(r"(?:[0-9]{1,9}(?![0-9])|(?!\*\*)[-+*/()\s])*+", ASCII),
    "intermediate_integration": _FORMULA,
    "polynomial_multiplication": _FORMULA,
    "simple_integration": _FORMULA,
    # The first number in the answer counts, its sign does not.
    "gsm_symbolic": regex(r"[0-9]{1,15}(?:\.[0-9]{1,9})?", ASCII),
    # `nan` is at no distance from the result.
    "complex_arithmetic": regex(r"[-+0-9.eij()\s]*", ASCII),
    # Where an equation has no solution, any text without numbers is taken for "none".
    "polynomial_equations": regex(r"[-+0-9.e,\s]*", ASCII),
}
"""What an answer must look like before a verifier sees it that would be fooled, or taken over, by others."""

_LONGEST = 10_000
"""Characters of an answer, plus ten times those of the right one. Some verifiers take quadratic time."""
_ROUNDING = 1e-9
_SECONDS = 0.8
"""CPU time for the verifier of one answer, so that no completion takes a second."""
_MEMORY = 4 << 30
"""Bytes of address space for a verifier and the libraries that it loads."""

_OPENING, _CLOSING = "<answer>", "</answer>"
_ASK = "Give your final answer between <answer> and </answer>, and nothing else there."


@dataclass(frozen=True, kw_only=True)
class ReasoningGym(Task):
    """Problems of one generator of the package reasoning_gym, judged by its own verifier.

    The generator's seed comes from a hash of split, seed and index; training has even ones, evaluation odd ones. A
    generator with few problems may pose the same one in both.

    Raises:
        InputError: on construction, when the generator or one of its options does not exist, is out of range, or is
            refused. Where the package is not installed, `missing` says so, and `examples` raises.
    """

    name: ClassVar[str] = "reasoning_gym"

    dataset: str = field(
        default="leg_counting", metadata={"help": "the generator: one of reasoning_gym's data sets, by name"}
    )
    generator_options: str = field(
        default="",
        metadata={"help": 'options of the generator as JSON, {"max_animals": 5}; without any, its defaults'},
    )
    reward: Reward = field(
        default="exact",
        metadata={
            "help": "'exact': 1 where the verifier's score is 1, else 0; 'score': the score itself, from 0 to 1"
        },
    )

    def __post_init__(self) -> None:
        if self.reward not in get_args(Reward):
            raise unknown_name("reward", str(self.reward), get_args(Reward))
        if self.missing() is None:
            check_generator(self.dataset, self.generator_options)

    @property
    def graded(self) -> bool:
        """Whether the reward is the verifier's score."""
        return self.reward == "score"

    def missing(self) -> str | None:
        """That the package is not installed, and what brings it; None where it is."""
        return missing_package()

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        """Problems `start … start + count − 1` of the stream (`split`, `seed`).

        Raises:
            InputError: on an unknown split, or a count, seed or start that is not a whole number ≥ 0; where the package
                is not installed; for a generator of `HASH_SEEDED`, where Python's hashes have no fixed seed.
        """
        parameters = {
            "dataset": self.dataset,
            "config": json.dumps(options(self.generator_options), sort_keys=True),
        }
        streams = problem_streams(self.name, parameters, split, count, seed=seed, start=start)
        missing = self.missing()
        if missing:
            raise InputError(missing)
        check_hashes(self.dataset)
        return [self._example(id_, 2 * rng.getrandbits(30) + (split == "eval")) for id_, rng in streams]

    def _example(self, id_: str, seed: int) -> Example:
        entry = make_entry(self.dataset, self.generator_options, seed)
        prompt = [{"role": "user", "content": f"{entry['question']}\n\n{_ASK}"}]
        return Example(id=id_, prompt=prompt, truth={"dataset": self.dataset, **entry})

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """Success (reward 1.0) when the package's verifier scores the answer 1, else 0.0; the score, if `reward="score"`.

        The answer stands between the last `</answer>` and the last `<answer>` before it, blanks around it left out.
        Without these tags there is none. A refusal's `reason` is one of `REASONS`: an answer that takes the verifier more
        than .8 seconds of CPU time or too much memory, or makes it raise where the right answer does not, is wrong.

        Many verifiers score a wrong answer .01 or .05, and one that is nearly right more. An error (reward None, `reason`
        one of `FAILURES`) where the truth is none of this generator's, or the verifier fails by itself. Never raises on any
        string.
        """
        return self.score_many([truth], [completion])[0]

    def score_many(self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
        """A verdict per completion; those that the package must judge are judged in worker processes."""
        items: list[Any] = []
        verdicts: list[Verdict | None] = []
        for truth, completion in zip(truths, completions, strict=True):
            answer = _answer(completion)
            verdicts.append(self._without_package(truth, answer))
            if verdicts[-1] is None:
                items.append(
                    {
                        "dataset": self.dataset,
                        "config": self.generator_options,
                        "entry": dict(truth),
                        "answer": answer,
                    }
                )
        scores = iter(_pool(self.dataset, self.generator_options).map(items) if items else [])
        return [self._verdict(next(scores)) if verdict is None else verdict for verdict in verdicts]

    def _without_package(self, truth: Mapping[str, Any], answer: str | None) -> Verdict | None:
        """The verdict where the package's verifier cannot or need not be asked."""
        for failure, error in ((NO_PACKAGE, self.missing()), (NO_PROBLEM, self._problem_with(truth))):
            if error:
                return _failed(failure, error)
        reason = _refusal(self.dataset, answer, truth["answer"])
        return Verdict(success=False, reward=0.0, reason=reason) if reason else None

    def _problem_with(self, truth: object) -> str:
        """What is wrong with a truth; "" where nothing is."""
        given = cast("Mapping[str, object]", truth if isinstance(truth, Mapping) else {})
        if given.get("dataset") == self.dataset and {"question", "answer", "metadata"} <= set(given):
            return ""
        return f"truth must be a problem of reasoning_gym's {self.dataset}, as this task makes them"

    def _verdict(self, score: object) -> Verdict:
        """The verdict that goes with a score from `score_entry`, or with what became of it."""
        if isinstance(score, WorkerFailure):
            if score.kind in ("time", "memory"):
                return Verdict(success=False, reward=0.0, reason=TOO_EXPENSIVE)
            return _failed(VERIFIER_FAILED, f"{self.dataset}: {score.kind}: {score.detail}")
        if not isinstance(score, float) or not 0.0 <= score <= 1.0 + _ROUNDING:  # which NaN is not
            return _failed(NO_SCORE, f"{self.dataset}: the score is {score!r}")
        # A sum of parts that comes out at 1.0000000000000002 is no success: it is meant to be less (spell_backward).
        success = score == 1.0
        return Verdict(
            success=success,
            reward=min(score, 1.0) if self.graded else float(success),
            reason="" if success else WRONG,
        )

    def can_demonstrate(self) -> bool:
        """Whether the generator gives right answers with its problems."""
        return self.dataset not in WITHOUT_GOLD

    def demonstration(self, example: Example) -> str:
        """The right answer in its tags.

        Raises:
            InputError: the generator gives none (`WITHOUT_GOLD`), or the truth is none of its.
        """
        problem = self._problem_with(example.truth)
        if problem:
            raise InputError(f"example '{example.id}' cannot be demonstrated: {problem}")
        answer = right_answer(self.dataset, example.truth)
        if answer is None:
            raise InputError(
                f"{self.dataset} has no demonstrations: reasoning_gym gives no right answer with its problems"
            )
        return f"{_OPENING}{answer}{_CLOSING}"

    def corruptions(self, example: Example, gold: str) -> Iterator[tuple[str, str]]:
        """Answers that no problem has, and the right one where none is looked for."""
        answer = gold.removeprefix(_OPENING).removesuffix(_CLOSING)
        yield "empty", ""
        yield "blank", " \n\t"
        yield "no tags", answer
        yield "tag not closed", f"{_OPENING}{answer}"
        yield "tag not opened", f"{answer}{_CLOSING}"
        yield "tags changed places", f"{_CLOSING}{answer}{_OPENING}"
        yield "other tags", f"<result>{answer}</result>"
        yield "second thoughts", f"{gold} or {_OPENING}not that{_CLOSING}"
        yield "no idea", f"{_OPENING}I do not know{_CLOSING}"
        yield "not a number", f"{_OPENING}nan{_CLOSING}"
        if answer:
            yield "nothing between the tags", f"{_OPENING}{_CLOSING}"
        if answer.isascii() and answer.isdigit():
            yield "another number", f"{_OPENING}{2 * int(answer) + 1_000_003}{_CLOSING}"


def _failed(reason: str, error: str) -> Verdict:
    return Verdict(success=False, reward=None, reason=reason, error=error)


def _answer(completion: str) -> str | None:
    """What a completion says between its last tags; None where there are none."""
    before, closing, _ = completion.rpartition(_CLOSING)
    _, opening, answer = before.rpartition(_OPENING)
    return answer.strip() if closing and opening else None


def _refusal(dataset: str, answer: str | None, right: str | None) -> str:
    """Why the answer need not be shown to the verifier, one of `REASONS`; "" where it must be."""
    if answer is None:
        return NO_TAGS
    if len(answer) > _LONGEST + 10 * len(right or ""):
        return TOO_LONG
    grammar = _GRAMMARS.get(dataset)
    # The package's own answer may be what it must not be elsewhere: an integral that sympy left as it was, say.
    return NOT_READABLE if grammar and answer != right and not grammar.fullmatch(answer) else ""


@lru_cache(maxsize=4)
def _pool(dataset: str, config: str) -> WorkerPool:
    return WorkerPool(
        "maxrl.tasks.reasoning_gym.package:score_entry",
        processes=min(4, os.cpu_count() or 1),
        time_limit=_SECONDS,
        memory_limit=_MEMORY,
        warm_up={"dataset": dataset, "config": config},
    )
