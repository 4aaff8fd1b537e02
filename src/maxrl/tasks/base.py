"""What a task is: it makes examples, scores a completion, demonstrates a solution, proves its verifier.

Tasks never import torch or transformers: they are strings, numbers and rules.
"""

import json
import math
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, cast

import maxrl.tasks  # as a whole: the module that judges imports this one
from maxrl.errors import InputError
from maxrl.tasks.streams import Split, check_integer
from maxrl.tasks.time_limits import told

Message = dict[str, str]
Prompt = str | list[Message]

_SHOWN_FAILURES = 10
_AT_ONCE = 500
"""Problems whose completions are judged in one call of `score_many`."""

NO_PROBLEM = "truth is no problem"
"""The `reason` of an error about a truth that the task cannot read."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One problem: what the model sees, and what only the verifier sees."""

    id: str
    """Names the problem, the same in every process: `"{split}-{seed}-{index}"`, or a name of its own in a data set."""
    prompt: Prompt
    """Plain text, or chat messages `[{"role": …, "content": …}]`."""
    truth: Mapping[str, Any]
    """Ground truth for the verifier, of JSON types only; never shown to the model."""
    task: str = ""
    """Of several tasks in one run, the one it belongs to; "" where there is one only."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a verifier says of one completion: success, failure, or an error of its own.

    An error is never a zero: `reward` is None then, and the rollout leaves its group.
    """

    success: bool
    reward: float | None
    components: Mapping[str, float] = field(default_factory=dict[str, float])
    """Named parts of the reward, for the logs."""
    reason: str = ""
    """Why it is no success (one of a few fixed phrases, so that they can be counted); "" for a success."""
    error: str | None = None
    """What went wrong inside the verifier; None where it reached a verdict."""


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A task's own words as plain data, for models made on the spot.

    Texts of the task are these words joined by single spaces. Special tokens (padding, beginning, end)
    are not the task's business; `maxrl.models` adds them.
    """

    words: tuple[str, ...]
    stop: tuple[str, ...] = ()
    """Words that end a completion, as the end-of-text token does; they are part of it."""


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """The result of a task's proof of its own verifier."""

    problems: int
    """Problems generated."""
    accepted: int
    """Gold completions accepted; must equal `problems`."""
    refused: Mapping[str, int]
    """Per kind of corruption, how many corrupted golds were refused …"""
    tried: Mapping[str, int]
    """… of how many tried."""
    failures: Sequence[str] = ()
    """The first few wrong verdicts, readable."""
    failed_batches: int = 0
    """Calls of `score_many` that gave no verdicts, so that `score` was asked one by one."""

    @property
    def passed(self) -> bool:
        """Whether every gold was accepted and every corruption refused, in batches too."""
        right = self.accepted == self.problems and dict(self.refused) == dict(self.tried)
        return right and not self.failed_batches


class Task(Protocol):
    """What the trainer, the evaluation and the command line ask of a task.

    An implementation inherits from this class and is a frozen, keyword-only dataclass: its fields are the task's
    parameters, each with `metadata={"help": …}`, and become fields of the recipes and options of the command line.
    Parameters out of range raise `maxrl.errors.InputError` on construction. `name`, `examples` and `score` must be
    given; the rest has a default.
    """

    name: ClassVar[str]
    time_limit: ClassVar[float] = 10.0
    """Seconds that `score` may take before it counts as hanging (see `judge`)."""
    check_parameters: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """Parameters with which the task can be tried on a machine without network, where its defaults cannot."""

    @property
    def graded(self) -> bool:
        """Whether rewards are more than 1.0 for a success and 0.0 for a failure; a parameter of the task may decide."""
        return False

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        """Problems `start … start + count − 1` of the stream (`split`, `seed`).

        The i-th problem does not depend on `count` or `start`, and no random state is shared between splits
        or left behind.
        """
        ...

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """The verdict on one completion. Never raises on any string."""
        ...

    def score_many(self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
        """A verdict per completion. A task that can judge several at once does it here, and bounds the time of each.

        A call that takes longer than `time_limit`, and than a tenth of it per completion, counts as hanging.
        """
        return [self.score(truth, completion) for truth, completion in zip(truths, completions, strict=True)]

    def demonstration(self, example: Example) -> str:
        """A completion that solves the example, for warm starts; from its id and truth alone, the same every time.

        Raises:
            InputError: the task has no demonstrations, or the truth is no problem.
        """
        raise InputError(f"task {self.name} has no demonstrations; give it a method `demonstration(example)`")

    def can_demonstrate(self) -> bool:
        """Whether `demonstration` gives solutions."""
        return type(self).demonstration is not Task.demonstration

    def vocabulary(self) -> Vocabulary | None:
        """The task's words, or None where only a general tokenizer will do."""
        return None

    def size(self, split: Split) -> int | None:
        """How many different problems a split has; None: as many as one asks for.

        Training goes through a finite split again and again; an evaluation asks for no more than there are.
        """
        return None

    def description(self) -> dict[str, Any]:
        """Name and parameters as JSON types: all that determines its problems and verdicts."""
        parameters = fields(cast(Any, self))  # a protocol does not say that every task is a dataclass
        return {
            "name": self.name,
            **{item.name: getattr(self, item.name) for item in parameters if item.init},
        }

    def missing(self) -> str | None:
        """What this machine lacks for the task to run (a compiler, a data set), and what brings it; None: nothing."""
        return None

    def picture(self, example: Example, completions: Sequence[str] = ()) -> str | None:
        """The problem, and what completions make of it, drawn in characters; None where there is nothing to draw."""
        return None

    def corruptions(self, example: Example, gold: str) -> Iterator[tuple[str, str]]:
        """Wrong completions near a right one, each after the name of what is wrong with it."""
        yield "empty", ""
        yield "blank", " \n\t"

    def self_check(self, count: int = 1000, *, seed: int = 0) -> SelfCheck:
        """Gold accepted and corrupted gold refused, on `count` generated problems; on all of a split that has fewer.

        A problem is taken from the training stream, its demonstration is the gold, `corruptions` are what must be
        refused. An error is no refusal, and a verifier that fails (see `judge`) has not passed.

        Raises:
            InputError: the task has no demonstrations, `count` is not a whole number ≥ 1, or the task makes no proper
                problems (see `draw_examples`), demonstrations or corruptions.
        """
        check_integer("count", count, 1)
        count = min(count, self.size("train") or count)
        accepted, failures = 0, list[str]()
        tried, refused, batches = Counter[str](), Counter[str](), list[str]()
        for start in range(0, count, _AT_ONCE):
            examples = draw_examples(self, "train", min(_AT_ONCE, count - start), seed=seed, start=start)
            trials = [trial for example in examples for trial in self._trials(example)]
            verdicts = maxrl.tasks.judge(
                self,
                [example.truth for example, _, _ in trials],
                [text for _, _, text in trials],
                batch_failed=batches.append,
            )
            for (example, kind, text), verdict in zip(trials, verdicts, strict=True):
                gold = kind is None
                right = self._is_plain(verdict) and verdict.success is gold
                accepted += gold and right
                if kind is not None:
                    tried[kind] += 1
                    refused[kind] += right
                if not right:
                    wrong = "gold refused" if kind is None else f"{kind} not refused"
                    failures.append(f"{wrong}: {dict(example.truth)} {text!r} {verdict}")
        return SelfCheck(
            problems=count,
            accepted=accepted,
            refused=dict(refused),
            tried=dict(tried),
            failures=tuple([*batches, *failures][:_SHOWN_FAILURES]),
            failed_batches=len(batches),
        )

    def _trials(self, example: Example) -> list[tuple[Example, str | None, str]]:
        """The gold of an example, without a name, and its corruptions."""
        with _named(self, f"demonstration or corruptions of example '{example.id}'"):
            gold = self.demonstration(example)
            trials = [(None, gold), *self.corruptions(example, gold)]
        for kind, text in trials:
            if not isinstance(cast(object, text), str):
                what = "its demonstration" if kind is None else f"its corruption '{kind}'"
                raise InputError(
                    f"task {self.name}: {what} of example '{example.id}' is a {type(text).__name__}, but a completion is a "
                    "string"
                )
        return [(example, kind, text) for kind, text in trials]

    def _is_plain(self, verdict: Verdict) -> bool:
        """Whether a verdict was reached, with the reward that belongs to it."""
        if verdict.error is not None or verdict.reward is None:
            return False
        return math.isfinite(verdict.reward) if self.graded else verdict.reward == float(verdict.success)


def draw_examples(task: Task, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
    """The examples that a task makes, checked: a user's own may make anything.

    Raises:
        InputError: the task raises, or does not give `count` whole examples; says what it gave and what is needed.
    """
    asked = f"examples({split!r}, {count}, seed={seed}, start={start})"
    with _named(task, asked):
        found = cast(object, task.examples(split, count, seed=seed, start=start))
    if not isinstance(found, list):
        raise InputError(f"task {task.name}: {asked} is a {type(found).__name__}; give a list of Example")
    examples = cast("list[object]", found)
    for number, example in enumerate(examples):
        flaw = _flaw(example)
        if flaw:
            raise InputError(f"task {task.name}: item {number} of {asked} {flaw}")
    if len(examples) != count:
        raise InputError(
            f"task {task.name}: {asked} gave {len(examples)} examples; give exactly as many as are asked for, and where a "
            "split has no more, say how many in `size(split)`"
        )
    return cast("list[Example]", examples)


def _flaw(example: object) -> str:
    """What an example lacks; "" where it is whole."""
    if not isinstance(example, Example):
        return f"is a {type(example).__name__}; give Example(id=…, prompt=…, truth=…)"
    id_, prompt, truth = cast("tuple[object, object, object]", (example.id, example.prompt, example.truth))
    if not isinstance(id_, str):
        return f"has an id that is a {type(id_).__name__}; give a string"
    if not isinstance(truth, Mapping):
        return f"has a truth that is a {type(truth).__name__}; give a dict of JSON types"
    try:
        json.dumps({**cast("Mapping[str, Any]", truth)})
    except (TypeError, ValueError) as error:
        return f"has a truth that is not JSON ({error}); give numbers, strings, lists and dicts"
    if not isinstance(prompt, str) and not _are_messages(prompt):
        return (
            f"has a prompt that is a {type(prompt).__name__}; give a text, or messages like "
            '[{"role": "user", "content": "…"}]'
        )
    return ""


def _are_messages(prompt: object) -> bool:
    messages = cast("list[Any]", prompt) if isinstance(prompt, list) else []
    return bool(messages) and all(
        isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        for message in messages
    )


@contextmanager
def _named(task: Task, what: str) -> Generator[None]:
    """Turns whatever a user's task raises into one line that says what, and where."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"task {task.name}: {what} raised {told(error)}") from error
