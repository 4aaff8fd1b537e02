"""Several tasks as one: who comes when, who judges what, and what is refused."""

import json
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxrl.errors import InputError
from maxrl.tasks import Example, Split, SubsetSum, Task, Verdict, Vocabulary, judge
from maxrl.tasks.guard import CRASHED
from maxrl.tasks.mixture import LONGEST_CYCLE, Mixture, Part, whole_shares

EASY = SubsetSum(num_elements=3, max_value=4, prompt_format="compact")
HARD = SubsetSum(num_elements=5, max_value=9, prompt_format="compact")
BOTH = Mixture(parts=(Part(name="easy", task=EASY, share=2), Part(name="hard", task=HARD)))


@dataclass(frozen=True, kw_only=True)
class Echo(Task):
    """Say the word of the prompt; of each split there are `many`. Remembers how often it judged."""

    name: ClassVar[str] = "echo"

    many: int = 3
    words: tuple[str, ...] = ("a", "b")
    stop: tuple[str, ...] = ()
    lacks: str = ""
    refuses_itself: bool = False
    calls: list[int] = field(default_factory=list[int], compare=False)

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        assert start + count <= self.many, "asked for more than there are"
        return [
            Example(id=f"{split}-{seed}-{number}", prompt=f"say {number}", truth={"word": str(number)})
            for number in range(start, start + count)
        ]

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        right = completion == truth["word"] and not self.refuses_itself
        return Verdict(success=right, reward=float(right), reason="" if right else "another word")

    def score_many(self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
        self.calls.append(len(completions))
        return super().score_many(truths, completions)

    def demonstration(self, example: Example) -> str:
        assert example.task == ""
        assert example.id.startswith("train-")
        return example.truth["word"]

    def vocabulary(self) -> Vocabulary | None:
        return Vocabulary(words=self.words, stop=self.stop)

    def size(self, split: Split) -> int | None:
        return self.many

    def missing(self) -> str | None:
        return self.lacks or None

    def picture(self, example: Example, completions: Sequence[str] = ()) -> str | None:
        return f"{example.id}: {example.truth['word']} {list(completions)}"


@dataclass(frozen=True, kw_only=True)
class Crashing(Echo):
    """Its verifier raises, whatever it is shown."""

    name: ClassVar[str] = "crashing"

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        raise RuntimeError("no")


@dataclass(frozen=True, kw_only=True)
class Slow(Echo):
    """Takes longer than other tasks may, and is allowed to."""

    name: ClassVar[str] = "slow"
    time_limit: ClassVar[float] = 30.0

    def score_many(self, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 20 < left < 31, "the limit in force is this task's"
        return [Verdict(success=True, reward=1.0)] * len(completions)


@dataclass(frozen=True, kw_only=True)
class Silent(Task):
    """Half a point for everything, and no demonstration."""

    name: ClassVar[str] = "silent"

    @property
    def graded(self) -> bool:
        return True

    def examples(self, split: Split, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        return [Example(id=str(number), prompt="", truth={}) for number in range(start, start + count)]

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        return Verdict(success=False, reward=0.5)


def mixed(*tasks: Task, shares: Sequence[int] | None = None) -> Mixture:
    """Parts called a, b, …"""
    return Mixture(
        parts=tuple(
            Part(name=name, task=task, share=share)
            for name, task, share in zip("abc", tasks, shares or [1] * len(tasks), strict=False)
        )
    )


def test_parts_take_turns_in_their_ratio() -> None:
    examples = BOTH.examples("train", 7, seed=3)
    assert [example.task for example in examples] == ["easy", "easy", "hard", "easy", "easy", "hard", "easy"]
    easy, hard = EASY.examples("train", 5, seed=3), HARD.examples("train", 2, seed=3)
    own = [easy[0], easy[1], hard[0], easy[2], easy[3], hard[1], easy[4]]
    for example, of_part in zip(examples, own, strict=True):
        assert example.prompt == of_part.prompt
        assert example.id == f"{example.task}/{of_part.id}"
        assert example.truth == {"task": example.task, "truth": of_part.truth}
        assert json.loads(json.dumps(dict(example.truth))) == example.truth


@given(st.integers(0, 40), st.integers(0, 20), st.lists(st.integers(1, 4), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_any_stretch_is_that_of_the_whole(start: int, count: int, shares: list[int]) -> None:
    mixture = mixed(*[EASY, Echo(), HARD][: len(shares)], shares=shares)
    whole = mixture.examples("train", start + count)
    assert mixture.examples("train", count, start=start) == whole[start:]
    cycles = (start + count) // sum(shares)
    seen = Counter(example.task for example in whole[: cycles * sum(shares)])
    assert [seen[name] for name in "abc"[: len(shares)]] == [cycles * share for share in shares]


def test_a_finite_part_begins_anew_while_the_others_go_on() -> None:
    examples = mixed(EASY, Echo(many=2)).examples("train", 10)
    assert [e.id for e in examples if e.task == "b"] == [f"b/train-0-{n}" for n in (0, 1, 0, 1, 0)]
    assert [e.id for e in examples if e.task == "a"] == [f"a/train-0-{n}" for n in range(5)]
    with pytest.raises(InputError, match="task echo has no problem in its eval split"):
        mixed(EASY, Echo(many=0)).examples("eval", 2)
    assert mixed(EASY, Echo(many=0)).examples("eval", 1), "nothing was asked of it"


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 3), st.booleans()), min_size=1, max_size=3),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_an_evaluation_ends_where_the_first_part_does(parts: list[tuple[int, int, bool]]) -> None:
    mixture = mixed(
        *(Echo(many=many) if finite else EASY for many, _, finite in parts),
        shares=[share for _, share, _ in parts],
    )
    size = mixture.size("eval")
    assert mixture.size("train") is None
    if not any(finite for *_, finite in parts):
        assert size is None
        return
    assert size is not None
    ids = [example.id for example in mixture.examples("eval", size)]
    assert len({*ids}) == size, "none comes twice"
    one_more = [example.id for example in mixture.examples("eval", size + 1)]
    assert len({*one_more}) == size, "the next one would"


def test_each_part_judges_its_own_in_one_call() -> None:
    first, second = Echo(), Echo(refuses_itself=True)
    mixture = mixed(first, second, EASY)
    examples = mixture.examples("train", 6)
    golds = [mixture.demonstration(example) for example in examples]
    verdicts = mixture.score_many([example.truth for example in examples], golds)
    assert [verdict.success for verdict in verdicts] == [True, False, True] * 2
    assert [verdict.reason for verdict in verdicts] == ["", "another word", ""] * 2
    assert first.calls == second.calls == [2]
    for example, gold, verdict in zip(examples, golds, verdicts, strict=True):
        assert mixture.score(example.truth, gold) == verdict
    assert mixture.score_many([], []) == []


def test_a_part_that_crashes_costs_its_own_rows() -> None:
    mixture = mixed(Crashing(), Echo())
    examples = mixture.examples("train", 4)
    verdicts = mixture.score_many([example.truth for example in examples], ["0", "0", "1", "1"])
    assert [verdict.success for verdict in verdicts] == [False, True, False, True]
    assert [verdict.reason for verdict in verdicts] == [CRASHED, "", CRASHED, ""]
    assert [verdict.reward for verdict in verdicts] == [None, 1.0, None, 1.0]


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_no_completion_makes_it_raise(completion: str) -> None:
    for example in BOTH.examples("train", 3):
        assert BOTH.score(example.truth, completion).error is None


@pytest.mark.parametrize(
    ("truth", "says"),
    [
        ({}, "with 'task' and 'truth'"),
        ({"task": "easy"}, "with 'task' and 'truth'"),
        ({"task": "easy", "truth": [1]}, "with 'task' and 'truth'"),
        ([], "with 'task' and 'truth'"),
        (None, "with 'task' and 'truth'"),
        ({"truth": {}}, "unknown task of the mixture 'None'"),
        ({"task": "esay", "truth": {}}, "did you mean 'easy'"),
        ({"task": ["easy"], "truth": {}}, "unknown task of the mixture"),
        ({"task": "easy", "truth": {}}, "truth['numbers']"),
    ],
)
def test_a_truth_that_is_none_is_an_error_and_no_zero(truth: Any, says: str) -> None:
    verdict = BOTH.score(truth, "1")
    assert verdict.reward is None
    assert says in str(verdict.error)


def test_demonstrations_pictures_and_corruptions_are_the_parts() -> None:
    mixture = mixed(Echo(), EASY)
    echo, easy = mixture.examples("train", 2)
    assert mixture.demonstration(echo) == "0"
    own = EASY.examples("train", 1)[0]
    gold = mixture.demonstration(easy)
    assert gold == EASY.demonstration(own)
    assert mixture.picture(echo, ["x"]) == "train-0-0: 0 ['x']"
    assert mixture.picture(easy) == EASY.picture(own)
    assert list(mixture.corruptions(easy, gold)) == [
        (f"b: {kind}", text) for kind, text in EASY.corruptions(own, gold)
    ]
    with pytest.raises(InputError, match=r"'x' is none of this mixture: .*'task' and 'truth'"):
        mixture.demonstration(Example(id="x", prompt="", truth={}))


def test_words_are_those_of_all_parts() -> None:
    mixture = mixed(Echo(words=("a", "b", "END"), stop=("END",)), Echo(words=("b", "c")))
    assert mixture.vocabulary() == Vocabulary(words=("a", "b", "END", "c"), stop=("END",))
    assert mixed(EASY, SubsetSum()).vocabulary() is None
    both_stop = mixed(Echo(words=("a", "END"), stop=("END",)), Echo(words=("b", "END"), stop=("END",)))
    assert both_stop.vocabulary() == Vocabulary(words=("a", "END", "b"), stop=("END",))
    with pytest.raises(
        InputError, match=r"^END would end the completions of task b, where it is an ordinary"
    ):
        mixed(Echo(words=("a", "END"), stop=("END",)), Echo(words=("b", "END"))).vocabulary()


def test_it_lacks_what_its_parts_lack() -> None:
    assert BOTH.missing() is None
    lacking = mixed(Echo(lacks="rustc: apt install rustc"), EASY, Echo(lacks="gcc"))
    assert lacking.missing() == "task a: rustc: apt install rustc; task c: gcc"


def test_the_proof_is_that_of_the_parts() -> None:
    check = BOTH.self_check(9, seed=1)
    easy, hard = EASY.self_check(6, seed=1), HARD.self_check(3, seed=1)
    assert check.passed
    assert (check.problems, check.accepted) == (9, 9)
    assert dict(check.tried) == {
        **{f"easy: {kind}": many for kind, many in easy.tried.items()},
        **{f"hard: {kind}": many for kind, many in hard.tried.items()},
    }
    assert dict(check.refused) == dict(check.tried)
    assert BOTH.self_check(1).problems == 1, "the second part has none to prove"
    wrong = mixed(Echo(), Echo(refuses_itself=True)).self_check(6)
    assert not wrong.passed
    assert (wrong.problems, wrong.accepted) == (6, 3)
    assert [failure.split(":")[0] for failure in wrong.failures] == ["b"] * 3
    with pytest.raises(InputError, match="count=0 is not allowed"):
        BOTH.self_check(0)


def test_it_says_what_it_is_as_plain_data() -> None:
    described = BOTH.description()
    assert json.loads(json.dumps(described)) == described
    assert described == {
        "name": "mixture",
        "parts": [
            {"name": "easy", "share": 2, "task": EASY.description()},
            {"name": "hard", "share": 1, "task": HARD.description()},
        ],
    }
    assert BOTH.part("hard").task is HARD


def test_it_is_graded_where_a_part_is_and_demonstrates_where_all_do() -> None:
    assert (BOTH.graded, mixed(EASY, Silent()).graded) == (False, True)
    assert (BOTH.can_demonstrate(), mixed(EASY, Silent()).can_demonstrate()) == (True, False)


def test_a_mixture_of_mixtures_is_one() -> None:
    nested = mixed(BOTH, Echo())
    examples = nested.examples("train", 4)
    assert [example.id for example in examples] == [
        "a/easy/train-0-0", "b/train-0-0", "a/easy/train-0-1", "b/train-0-1",
    ]  # fmt: skip
    assert [example.task for example in examples] == ["a", "b"] * 2
    golds = [nested.demonstration(example) for example in examples]
    assert all(v.success for v in nested.score_many([e.truth for e in examples], golds))


def test_chat_and_plain_text_do_not_mix() -> None:
    mixture = Mixture(parts=(Part(name="plain", task=EASY), Part(name="chat", task=SubsetSum())))
    with pytest.raises(InputError, match=r"^chat poses problems as a chat, plain as plain text: choose one"):
        mixture.examples("train", 2)
    chats = mixed(SubsetSum(), SubsetSum(num_elements=4)).examples("train", 2)
    assert all(isinstance(example.prompt, list) for example in chats)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Mixture(parts=()), "at least one task"),
        (lambda: Mixture(parts=(*BOTH.parts, *BOTH.parts)), "several tasks are called easy, hard; give each a `name`"),
        (lambda: Part(name="a/b", task=EASY), "cannot be called 'a/b'"),
        (lambda: Part(name="", task=EASY), "cannot be called ''"),
        (lambda: Part(name="-a", task=EASY), "cannot be called '-a'"),
        (lambda: Part(name="a", task=EASY, share=0), "share of task a=0 is not allowed"),
        (lambda: mixed(EASY, HARD, shares=[LONGEST_CYCLE, 1]), "a cycle of 1001 problems, more than 1000"),
        (lambda: BOTH.examples("train", -1), "count=-1"),
        (lambda: BOTH.examples("train", 1, start=-1), "start=-1"),
        (lambda: BOTH.examples("test", 1), "unknown split 'test'"),  # pyright: ignore[reportArgumentType]
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make: Any, says: str) -> None:
    with pytest.raises(InputError) as refusal:
        make()
    assert says in str(refusal.value)


@given(st.lists(st.integers(1, 99).map(lambda n: n / 10) | st.integers(1, 9), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_shares_are_exact_and_smallest(shares: list[float]) -> None:
    whole = list(whole_shares({str(n): share for n, share in enumerate(shares)}).values())
    exact = [Fraction(str(share)) for share in shares]
    assert [Fraction(n, whole[0]) for n in whole] == [share / exact[0] for share in exact]
    assert all(any(n % d for n in whole) for d in range(2, min(whole) + 1))


@pytest.mark.parametrize("share", [0, -1, float("inf"), float("nan"), True, "2", None])
def test_a_share_is_a_number_above_zero(share: Any) -> None:
    with pytest.raises(InputError, match="share of task b must be a number above 0"):
        whole_shares({"a": 1, "b": share})


def test_a_share_that_makes_an_endless_cycle_is_refused() -> None:
    assert whole_shares({"a": 999, "b": 1}) == {"a": 999, "b": 1}
    with pytest.raises(InputError, match="are 1000 : 1 in whole numbers, which come to more than 1000"):
        whole_shares({"a": 1, "b": 0.001})


def test_every_error_has_a_reason_and_the_parts_have_their_own_time() -> None:
    slow = Mixture(parts=(Part(name="slow", task=Slow()), Part(name="easy", task=EASY)))
    truths = [example.truth for example in slow.examples("train", 4)]
    broken: list[Any] = [None, {}, {"task": "nobody", "truth": {}}, {"task": "easy", "truth": {}}]
    verdicts = judge(slow, [*truths, *broken], ["1"] * 8)
    assert [verdict.reason for verdict in verdicts[::2][:2]] == ["", ""]
    assert [verdict.reason for verdict in verdicts[4:]] == ["truth is no problem"] * 4
    assert all(verdict.error for verdict in verdicts[4:])


def test_a_batch_that_fails_in_a_part_fails_the_check_of_all() -> None:
    short = type("Short", (Echo,), {"score_many": lambda *_: []})
    check = mixed(EASY, short(many=5)).self_check(6)
    assert check.failed_batches == 1
    assert not check.passed
    assert check.failures == ("b: score_many failed on 9 completions: returned 0 verdicts",)
