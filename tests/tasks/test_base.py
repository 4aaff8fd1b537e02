"""What a task gets from `Task`: defaults, and the proof of its own verifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

from maxrl.errors import InputError
from maxrl.tasks import Example, SelfCheck, Split, Task, Verdict
from maxrl.tasks.base import draw_examples

RIGHT, WRONG = Verdict(success=True, reward=1.0), Verdict(success=False, reward=0.0, reason="no")


@dataclass(frozen=True, kw_only=True)
class Echo(Task):
    """The least that a task must have: say the number of the problem."""

    name: ClassVar[str] = "echo"

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        return [
            Example(id=f"{split}-{seed}-{index}", prompt=f"say {index}", truth={"index": index})
            for index in range(start, start + count)
        ]

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        return RIGHT if completion == str(truth["index"]) else WRONG


class Demonstrated(Echo):
    def demonstration(self, example: Example) -> str:
        return str(example.truth["index"])


class Scored(Demonstrated):
    """Its verdict on right and on wrong completions can be chosen."""

    right: ClassVar[Any] = RIGHT
    wrong: ClassVar[Any] = WRONG

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        return self.right if super().score(truth, completion).success else self.wrong


class GradedByParameter(Scored):
    graded = True


def scored(cls: type[Scored], right: Verdict = RIGHT, wrong: Verdict = WRONG) -> Task:
    return type("Chosen", (cls,), {"right": right, "wrong": wrong})()


def test_the_defaults() -> None:
    task = Echo()
    assert task.graded is False
    assert task.time_limit == 10.0
    assert dict(task.check_parameters) == {}
    assert task.vocabulary() is None
    assert task.size("train") is task.size("eval") is None
    assert task.missing() is None
    example = task.examples("train", 1)[0]
    assert task.picture(example) is task.picture(example, ["0"]) is None
    assert list(task.corruptions(example, "0")) == [("empty", ""), ("blank", " \n\t")]
    assert task.score_many([{"index": 1}, {"index": 2}], ["1", "1"]) == [RIGHT, WRONG]
    assert task.score_many([], []) == []
    assert example.task == ""
    assert not task.can_demonstrate()
    assert Demonstrated().can_demonstrate()


def test_the_description_is_name_and_parameters() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Described(Echo):
        loud: bool = False
        found: int = field(default=3, init=False)

    assert Echo().description() == {"name": "echo"}
    assert Described(loud=True).description() == {"name": "echo", "loud": True}


def test_what_must_be_given_has_no_default() -> None:
    assert Task.examples(Echo(), "train", 1) is None
    assert Task.score(Echo(), {}, "") is None


def test_check_parameters_cannot_be_changed_for_all_tasks_at_once() -> None:
    with pytest.raises(TypeError):
        Task.check_parameters["a"] = 1  # pyright: ignore[reportIndexIssue]


def test_a_batch_of_unequal_lengths_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Echo().score_many([{"index": 1}], ["1", "2"])


def test_without_demonstrations_there_is_no_self_check() -> None:
    message = r"task echo has no demonstrations; give it a method `demonstration\(example\)`"
    with pytest.raises(InputError, match=message):
        Echo().demonstration(Echo().examples("train", 1)[0])
    with pytest.raises(InputError, match=message):
        Echo().self_check(3)


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1200])
def test_a_self_check_tries_every_problem_once(count: int) -> None:
    seen: list[int] = []

    class Watched(Demonstrated):
        def score_many(
            self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]
        ) -> list[Verdict]:
            seen.extend(
                truth["index"]
                for truth, completion in zip(truths, completions, strict=True)
                if completion.strip()
            )
            return super().score_many(truths, completions)

    result = Watched().self_check(count)
    assert result == SelfCheck(
        problems=count,
        accepted=count,
        refused={"empty": count, "blank": count},
        tried={"empty": count, "blank": count},
    )
    assert result.passed
    assert seen == list(range(count))


def test_a_self_check_takes_problems_from_the_training_stream_of_its_seed() -> None:
    asked: list[tuple[str, int]] = []

    class Watched(Demonstrated):
        def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
            asked.append((split, seed))
            return super().examples(split, count, seed=seed, start=start)

    Watched().self_check(3, seed=7)
    assert asked == [("train", 7)]


@pytest.mark.parametrize(("size", "tried"), [(7, 7), (1000, 20), (None, 20)])
def test_a_small_split_is_tried_once(size: int | None, tried: int) -> None:
    finite = type("Finite", (Demonstrated,), {"size": lambda self, split: size if split == "train" else 3})
    assert finite().self_check(20).problems == tried


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "3"])
def test_a_self_check_of_nothing_is_refused(count: Any) -> None:
    with pytest.raises(InputError, match="count="):
        Demonstrated().self_check(count)


HALF = Verdict(success=False, reward=0.5, reason="half")
ERROR = Verdict(success=False, reward=None, error="broken")
NAN = Verdict(success=False, reward=float("nan"), reason="?")


@pytest.mark.parametrize(
    ("cls", "right", "wrong", "accepted", "refused"),
    [
        (Scored, RIGHT, WRONG, True, True),
        (Scored, WRONG, WRONG, False, True),
        (Scored, RIGHT, RIGHT, True, False),
        (Scored, ERROR, WRONG, False, True),
        (Scored, RIGHT, ERROR, True, False),  # an error is no refusal
        (
            Scored,
            Verdict(success=True, reward=0.9),
            WRONG,
            False,
            True,
        ),  # nor is part of a reward an acceptance
        (Scored, RIGHT, HALF, True, False),
        (Scored, RIGHT, Verdict(success=False, reward=1.0), True, False),
        (GradedByParameter, Verdict(success=True, reward=0.9), HALF, True, True),
        (GradedByParameter, RIGHT, NAN, True, False),
        (GradedByParameter, HALF, WRONG, False, True),
    ],
)
def test_a_wrong_verifier_is_caught(
    cls: type[Scored], right: Verdict, wrong: Verdict, accepted: bool, refused: bool
) -> None:
    result = scored(cls, right, wrong).self_check(20)
    assert result.accepted == 20 * accepted
    assert dict(result.refused) == dict.fromkeys(("empty", "blank"), 20 * refused)
    assert result.passed is (accepted and refused)
    assert len(result.failures) == (0 if accepted and refused else 10)  # the first few, of 20 and of 40
    if not accepted:
        assert result.failures[0].startswith("gold refused: {'index': 0} '0' Verdict(")
    elif not refused:
        assert result.failures[0].startswith("empty not refused: {'index': 0} '' Verdict(")


def test_a_batch_without_verdicts_fails_the_check_though_each_is_right_by_itself() -> None:
    class Short(Demonstrated):
        def score_many(
            self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]
        ) -> list[Verdict]:
            return [RIGHT]

    result = Short().self_check(501)
    assert (result.accepted, result.failed_batches, result.passed) == (501, 2, False)
    assert result.failures == (
        "score_many failed on 1500 completions: returned 1 verdicts",
        "score_many failed on 3 completions: returned 1 verdicts",
    )


def test_a_verifier_that_raises_has_not_passed_and_says_where() -> None:
    class Raising(Demonstrated):
        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            raise KeyError("answer")

    result = Raising().self_check(3)
    assert (result.accepted, result.passed) == (0, False)
    assert dict(result.refused) == {"empty": 0, "blank": 0}
    assert "KeyError: 'answer' (test_base.py, line" in result.failures[0]


WHOLE = Example(id="1", prompt="p", truth={"index": 1})


def with_fields(**fields: Any) -> Example:
    return Example(**{"id": "1", "prompt": "p", "truth": {}, **fields})


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (None, r"examples\('train', 2, seed=0, start=0\) is a NoneType; give a list of Example"),
        ((WHOLE, WHOLE), r"is a tuple; give a list of Example"),
        ([], r"gave 0 examples; give exactly as many as are asked for.* say how many in `size\(split\)`"),
        ([WHOLE] * 3, "gave 3 examples"),
        ([WHOLE, "p"], r"item 1 of examples\(.*\) is a str; give Example\(id=…, prompt=…, truth=…\)"),
        ([with_fields(id=3)], "item 0 .* has an id that is a int; give a string"),
        ([with_fields(truth=3)], "has a truth that is a int; give a dict of JSON types"),
        ([with_fields(truth={"a": {1, 2}})], "has a truth that is not JSON .*set.*; give numbers, strings"),
        ([with_fields(prompt=5)], "has a prompt that is a int; give a text, or messages"),
        ([with_fields(prompt=[])], "has a prompt that is a list; give a text, or messages"),
        ([with_fields(prompt=["p"])], "has a prompt that is a list; give a text, or messages"),
        ([with_fields(prompt=[{"role": "user"}])], "has a prompt that is a list; give a text, or messages"),
        (ValueError("boom"), r"examples\(.*\) raised ValueError: boom \(test_base.py, line \d+\)"),
        (InputError("as it is"), "^as it is$"),
    ],
)
def test_examples_that_are_none_are_named(made: Any, says: str) -> None:
    class Making(Demonstrated):
        def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> Any:
            if isinstance(made, Exception):
                raise made
            return made

    for ask in (lambda: draw_examples(Making(), "train", 2), lambda: Making().self_check(2)):
        with pytest.raises(InputError, match=says):
            ask()


def test_whole_examples_pass() -> None:
    chat = with_fields(prompt=[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])
    task = type("Two", (Echo,), {"examples": lambda *_, **__: [WHOLE, chat]})()
    assert draw_examples(task, "eval", 2, seed=3) == [WHOLE, chat]


@pytest.mark.parametrize(
    ("method", "made", "says"),
    [
        (
            "demonstration",
            3,
            "its demonstration of example 'train-0-0' is a int, but a completion is a string",
        ),
        (
            "demonstration",
            KeyError("x"),
            r"demonstration or corruptions of example 'train-0-0' raised KeyError",
        ),
        ("corruptions", [("odd", None)], "its corruption 'odd' of example 'train-0-0' is a NoneType"),
        (
            "corruptions",
            RuntimeError("x"),
            "demonstration or corruptions of example .* raised RuntimeError: x",
        ),
    ],
)
def test_demonstrations_and_corruptions_that_are_none_are_named(method: str, made: Any, says: str) -> None:
    def answer(*_: Any) -> Any:
        if isinstance(made, Exception):
            raise made
        return made

    with pytest.raises(InputError, match=f"task echo: .*{says}"):
        type("Odd", (Demonstrated,), {method: answer})().self_check(2)


@pytest.mark.parametrize(
    ("accepted", "refused", "passed"),
    [
        (5, {"a": 5, "b": 2}, True),
        (4, {"a": 5, "b": 2}, False),  # a gold was refused
        (5, {"a": 5, "b": 1}, False),  # a corruption slipped through
        (5, {"a": 5}, False),  # all of one kind slipped through
    ],
)
def test_self_check_passes_only_when_everything_held(
    accepted: int, refused: dict[str, int], passed: bool
) -> None:
    check = SelfCheck(problems=5, accepted=accepted, refused=refused, tried={"a": 5, "b": 2})
    assert check.passed is passed
    assert not replace(check, failed_batches=1).passed
