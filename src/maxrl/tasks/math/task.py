r"""GSM8K and mathematics: questions from data sets, answers compared by text, exact arithmetic and `math-verify`.

Two tasks, `gsm8k` and `math`, which differ in their data and prompts alone, and `math_reward`, the same verifier as a
reward function in TRL's calling convention.
"""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, cast, get_args

from maxrl.errors import InputError, unknown_name
from maxrl.tasks.base import Example, Prompt, Task, Verdict
from maxrl.tasks.math.answers import AnswerFormat, gold_answer, read_gold
from maxrl.tasks.math.sources import FILE_ENDINGS, PROJECT, SOURCES, Problem, Subject, load_problems
from maxrl.tasks.math.verdicts import NO_GOLD, judge_answers
from maxrl.tasks.streams import Split, check_integer, problem_streams, random_stream

PromptFormat = Literal["chat", "plain"]

_KNOWN = ", ".join([PROJECT, *SOURCES])
_DATA_HELP = f"a data set: {_KNOWN}; a .jsonl, .json or .parquet file; or owner/name on the Hub"
_COLUMN_HELP = "column of the {} in a file or a data set on the Hub"


@dataclass(frozen=True, kw_only=True)
class _MathTask(Task):
    """What both tasks share."""

    check_parameters: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"train_data": PROJECT, "eval_data": PROJECT}
    )
    _subject: ClassVar[Subject]
    _boxed_suffix: ClassVar[str]
    _hash_suffix: ClassVar[str]

    train_data: str = field(default=PROJECT, metadata={"help": f"problems for training: {_DATA_HELP}"})
    eval_data: str = field(default=PROJECT, metadata={"help": f"problems for evaluation: {_DATA_HELP}"})
    question_column: str = field(
        default="",
        metadata={"help": f"{_COLUMN_HELP.format('questions')}; empty: question, problem or prompt"},
    )
    answer_column: str = field(
        default="", metadata={"help": f"{_COLUMN_HELP.format('answers')}; empty: answer"}
    )
    prompt_format: PromptFormat = field(
        default="chat",
        metadata={
            "help": "'chat': a message, for models with a chat template; 'plain': text, for base models"
        },
    )
    prompt_suffix: str | None = field(
        default=None,
        metadata={
            "help": "what follows the question, its blank or line break included; null: the paper's words"
        },
    )
    answer_format: AnswerFormat = field(
        default="any",
        metadata={
            "help": "where the answer counts: 'boxed': in the last \\boxed{}; 'hash': after the last ####; "
            "'any': in the box, else after ####, else after 'A:' or 'Answer:'"
        },
    )

    def __post_init__(self) -> None:
        for name, allowed in (("prompt_format", PromptFormat), ("answer_format", AnswerFormat)):
            if getattr(self, name) not in get_args(allowed):
                raise unknown_name(name, str(getattr(self, name)), get_args(allowed))
        for name in ("train_data", "eval_data", "question_column", "answer_column"):
            if not isinstance(getattr(self, name), str):
                raise InputError(f"{name}={getattr(self, name)!r} is not allowed; give a text")

    def _problems(self, split: Split) -> Sequence[Problem]:
        name = self.train_data if split == "train" else self.eval_data
        return load_problems(name, split, self._subject, self.question_column, self.answer_column)

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        """Problems `start … start + count − 1` of a split.

        Training goes through all problems again and again, in an order of its own each time (it depends on the seed and
        on how many times it has been through). Evaluation takes them in the order of the data set, whatever the seed.
        An example's id is the problem's own, and so the same each time.

        Raises:
            InputError: on an unknown split, a count, seed or start that is not a whole number ≥ 0, data that cannot be
                loaded, or an evaluation that asks for more problems than there are.
        """
        problem_streams(self.name, {}, split, count, seed=seed, start=start)  # checks what was asked for
        problems = self._problems(split)
        many, end = len(problems), start + count
        if split == "train":
            chosen = [
                _order(self.name, many, seed, index // many)[index % many] for index in range(start, end)
            ]
        elif end > many:
            raise InputError(f"{self.eval_data} has {many} problems for evaluation; {end} were asked for")
        else:
            chosen = list(range(start, end))
        return [self._example(problems[index]) for index in chosen]

    def _example(self, problem: Problem) -> Example:
        truth = {"answer": problem.answer}
        if problem.solution:
            truth["solution"] = problem.solution
        return Example(id=problem.id, prompt=self._prompt(problem.question), truth=truth)

    def _prompt(self, question: str) -> Prompt:
        suffix = self.prompt_suffix
        if suffix is None:
            suffix = self._hash_suffix if self.answer_format == "hash" else self._boxed_suffix
        if self.prompt_format == "plain":
            return f"{question}{suffix}\n"
        return [{"role": "user", "content": f"{question}{suffix}"}]

    def size(self, split: Split) -> int | None:
        """How many problems the split's data set has."""
        return len(self._problems(split))

    def missing(self) -> str | None:
        """A data file that does not exist, or `math-verify`."""
        for name in (self.train_data, self.eval_data):
            if name.endswith(FILE_ENDINGS) and not Path(name).is_file():
                return f"the data file {name}"
        if importlib.util.find_spec("math_verify") is None:
            return "math-verify, which `pip install math-verify` brings"
        return None

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        """Success (reward 1.0) when the completion gives the right answer in the form asked for, else 0.0.

        What counts as the answer, and as the same answer, is said at `maxrl.tasks.math.answers.settle`. A refusal's
        `reason` is one of `REASONS` there. An answer that takes more than `COMPARISON_LIMIT` to compare, or more memory
        than a process gets, or that crashes `math-verify` twice, is refused as well; but where comparing the gold
        with a plain number fails as well, or no process can be started, the verdict is an error.
        """
        return self.score_many([truth], [completion])[0]

    def score_many(self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
        """A verdict per completion; the same two expressions are compared once."""
        golds = [_gold_of(truth) for truth in truths]
        return judge_answers(golds, completions, self.answer_format)

    def demonstration(self, example: Example) -> str:
        r"""The worked solution where the data set has one, and the answer in the form asked for.

        Raises:
            InputError: the truth is no problem.
        """
        gold = _gold_of(example.truth)
        if gold is None:
            raise InputError(f"example '{example.id}' cannot be demonstrated: {NO_GOLD}")
        solution = str(example.truth.get("solution", ""))
        last = f"#### {gold}" if self.answer_format == "hash" else f"The answer is \\boxed{{{gold}}}."
        return f"{solution}\n{last}" if solution else last

    def corruptions(self, example: Example, gold: str) -> Iterator[tuple[str, str]]:
        """Wrong answers, several answers, and right ones that are not where an answer counts."""
        answer = str(example.truth["answer"])
        prompt = example.prompt if isinstance(example.prompt, str) else example.prompt[-1]["content"]
        yield "empty", ""
        yield "blank", " \n\t"
        yield "question repeated", prompt
        yield "cut off", gold[: max(gold.find("\\boxed"), gold.find("####"))]
        yield "no form", f"The answer is {answer}."
        yield "box cut off", gold.replace("####", "").rstrip("}. ") + f"\n\\boxed{{{answer}"
        for kind, wrong in _wrong_answers(answer):
            yield kind, self._shown(wrong)
        yield "another answer after it", f"{gold}\n{self._shown(_OTHER)}"
        if self.answer_format != "any":
            yield "another form", f"\\boxed{{{answer}}}" if self.answer_format == "hash" else f"#### {answer}"

    def _shown(self, answer: str) -> str:
        return f"#### {answer}" if self.answer_format == "hash" else f"\\boxed{{{answer}}}"


@dataclass(frozen=True, kw_only=True)
class GSM8K(_MathTask):
    r"""Grade-school problems whose answer is a number: GSM8K, tested on GSM8K-Platinum.

    The prompt is the paper's (2602.02710): the question, a blank and "Let's think step by step and output the final answer
    within \boxed{}."

    Raises:
        InputError: on construction, when a parameter is of the wrong type or unknown.
    """

    name: ClassVar[str] = "gsm8k"
    _subject: ClassVar[Subject] = "gsm8k"
    _boxed_suffix: ClassVar[str] = " Let's think step by step and output the final answer within \\boxed{}."
    _hash_suffix: ClassVar[str] = " Let's think step by step and write the final answer after ####."

    train_data: str = field(default="gsm8k", metadata={"help": f"problems for training: {_DATA_HELP}"})
    eval_data: str = field(
        default="gsm8k_platinum", metadata={"help": f"problems for evaluation: {_DATA_HELP}"}
    )


@dataclass(frozen=True, kw_only=True)
class Math(_MathTask):
    r"""Mathematics whose answer is a number or an expression: POLARIS-53K, tested on MATH-500.

    The prompt is that of the paper's code for these data: the question, a line break and "Please reason step by step, and
    put your final answer within \boxed{}."

    Raises:
        InputError: on construction, when a parameter is of the wrong type or unknown.
    """

    name: ClassVar[str] = "math"
    _subject: ClassVar[Subject] = "math"
    _boxed_suffix: ClassVar[str] = "\nPlease reason step by step, and put your final answer within \\boxed{}."
    _hash_suffix: ClassVar[str] = "\nPlease reason step by step, and write your final answer after ####."

    train_data: str = field(default="polaris", metadata={"help": f"problems for training: {_DATA_HELP}"})
    eval_data: str = field(default="math500", metadata={"help": f"problems for evaluation: {_DATA_HELP}"})


def make_math_reward(
    *, answer_format: AnswerFormat = "any", zero_at_length: int | None = None
) -> Callable[..., list[float | None]]:
    """A reward function in TRL's calling convention: `(completions, answer, **columns) -> rewards`.

    The rewards are 1.0 for a right answer, 0.0 for a wrong one and None where the verifier failed. Completions are texts or
    lists of messages, of which the last counts. `answer` is the data set's column of that name; of its text, what stands
    after the last `####` counts, or in the last box, or all of it.

    Args:
        answer_format: where the answer counts, see `maxrl.tasks.math.answers.extract_answer`.
        zero_at_length: completions of at least so many tokens get 0.0 (they were cut off; the official code of the paper
            does the same). Give `max_completion_length`; needs `completion_ids`, which TRL passes. None: no such rule.

    Raises:
        InputError: on an unknown `answer_format` or a `zero_at_length` that is not a whole number ≥ 1; on a call, where
            `completion_ids` are missing or a completion is neither a text nor messages.
    """
    if answer_format not in get_args(AnswerFormat):
        raise unknown_name("answer_format", str(answer_format), get_args(AnswerFormat))
    if zero_at_length is not None:
        check_integer("zero_at_length", zero_at_length, 1)

    def math_reward(
        completions: Sequence[Any],
        answer: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        golds = [None if text is None else gold_answer(str(text)) or None for text in answer]
        verdicts = judge_answers(golds, [_text_of(completion) for completion in completions], answer_format)
        rewards = [verdict.reward for verdict in verdicts]
        if zero_at_length is None:
            return rewards
        if completion_ids is None:
            raise InputError("zero_at_length needs completion_ids, the tokens of each completion")
        lengths = map(len, completion_ids)
        return [
            0.0 if length >= zero_at_length else reward
            for length, reward in zip(lengths, rewards, strict=True)
        ]

    # A None of this function is a failure of the verifier, and does not mean that it has no say about the completion.
    cast(Any, math_reward).none_is_failure = True
    return math_reward


math_reward = make_math_reward()
"""`make_math_reward` with its defaults, to be named as `maxrl.tasks.math.task:math_reward`."""


def _text_of(completion: object) -> str:
    kind, last = type(completion).__name__, completion
    if isinstance(completion, list) and completion:
        last = cast("list[object]", completion)[-1]
    text = cast("Mapping[str, object]", last).get("content") if isinstance(last, Mapping) else last
    if not isinstance(text, str):
        raise InputError(f"a completion must be a text or messages with a text, got {kind}")
    return text


def _gold_of(truth: object) -> str | None:
    answer = cast("Mapping[str, Any]", truth).get("answer") if isinstance(truth, Mapping) else None
    return answer if isinstance(answer, str) and answer.strip() else None


@lru_cache(maxsize=4)  # a step asks for a few problems, a shuffle of 53,000 takes 20 ms
def _order(task: str, many: int, seed: int, epoch: int) -> Sequence[int]:
    order = list(range(many))
    random_stream(task, "order", seed, epoch).shuffle(order)
    return order


_OTHER = "98765.4321"
"""The answer to no problem."""


def _wrong_answers(answer: str) -> Iterator[tuple[str, str]]:
    """Answers that are certain to be wrong, each after the name of what is wrong with it."""
    yield "no answer", ""
    yield "two answers", f"{answer} \\text{{ or }} {_OTHER}"
    yield "list", f"{answer}; {_OTHER}"
    yield "not that", f"\\text{{not }} {answer}"
    yield "another number", _OTHER
    number = read_gold(answer)
    if number is None:
        return
    value = number.value
    yield "off by one", str(value + 1)
    yield "stated again", f"{answer} + 1 - 1"
    if value.denominator == 1:
        yield "off by a little", f"{value}.001"
    if value:
        yield "other sign", str(-value)
        yield "doubled", str(2 * value)
