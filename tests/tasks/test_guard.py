"""`judge`: whatever a verifier does costs its own rollouts, nothing else."""

import math
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from maxrl.tasks import Example, Task, Verdict, judge
from maxrl.tasks.guard import (
    CRASHED,
    FAILURES,
    MOST_TIMEOUTS,
    NONSENSE,
    NOT_JUDGED,
    TOO_SLOW,
    TimeLimit,
    TimeUpError,
    attempt,
)

RIGHT, WRONG = Verdict(success=True, reward=1.0), Verdict(success=False, reward=0.0, reason="no")
LIMIT = 0.15


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


class Text(str):
    __repr__ = Unprintable.__repr__


def _recursion(depth: int = 0) -> int:
    return _recursion(depth + 1) + 1


def _pure_loop() -> None:
    while True:
        pass


def _stubborn() -> None:
    """Swallows the first exceptions that reach it, whatever they are, and works on."""
    for _ in range(3):
        with suppress(BaseException):
            time.sleep(60)
    time.sleep(60)


def _endless_except_exception() -> None:
    while True:
        with suppress(Exception):
            time.sleep(0.01)


def _exit() -> None:
    raise SystemExit(0)


def _leave_generator() -> None:
    raise GeneratorExit


def _raise_silent() -> None:
    raise Silent


def _catastrophe() -> None:
    re.fullmatch(r"(a+)+b", "a" * 60)


CRASHES: dict[str, Callable[[], Any]] = {
    "zero": lambda: 1 / 0,
    "recursion": _recursion,
    "memory": lambda: bytearray(1 << 62),
    "exit": _exit,
    "generator exit": _leave_generator,
    "exception without words": _raise_silent,
}
HANGS: dict[str, Callable[[], Any]] = {
    "sleep": lambda: time.sleep(60),
    "loop": _pure_loop,
    "regular expression": _catastrophe,
    "swallows Exception": _endless_except_exception,
    "swallows everything thrice": _stubborn,
}
NONSENSES: dict[str, Any] = {
    "None": None,
    "string": "1.0",
    "number": 1.0,
    "no reward": Verdict(success=True, reward=None),
    "NaN": Verdict(success=True, reward=math.nan),
    "infinity": Verdict(success=True, reward=math.inf),
    "more than a float holds": Verdict(success=True, reward=10**400),
    "reward is a string": Verdict(success=True, reward="1"),
    "reward is a tensor of sorts": Verdict(success=True, reward=Unprintable()),
    "reward and error": Verdict(success=False, reward=0.0, error="but"),
    "success is a word": Verdict(success="yes", reward=1.0),
    "error is a number": Verdict(success=False, reward=None, error=3),
    "reason is a list": Verdict(success=False, reward=0.0, reason=["no"]),
    "components are a list": Verdict(success=True, reward=1.0, components=[1.0]),
    "component is NaN": Verdict(success=True, reward=1.0, components={"a": math.nan}),
    "component is a string": Verdict(success=True, reward=1.0, components={"a": "1"}),
    "component without a name": Verdict(success=True, reward=1.0, components={1: 1.0}),
    "class": Verdict,
    "unprintable": Unprintable(),
    "unprintable text": Text("1"),
}


@dataclass(frozen=True, kw_only=True)
class Scripted(Task):
    """Does what a completion names, and finds every other one right."""

    name: ClassVar[str] = "scripted"
    time_limit: ClassVar[float] = LIMIT

    def examples(self, split: str, count: int, *, seed: int = 0, start: int = 0) -> list[Example]:
        return []

    def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
        if completion in NONSENSES:
            return NONSENSES[completion]
        act = CRASHES.get(completion) or HANGS.get(completion) or (lambda: None)
        act()
        return RIGHT


def judged(task: Task, *completions: str) -> list[Verdict]:
    return judge(task, [{}] * len(completions), completions)


def reasons(verdicts: Sequence[Verdict]) -> list[str]:
    for verdict in verdicts:
        assert (verdict.reward is None) is (verdict.error is not None) is (verdict.reason in FAILURES)
        assert not (verdict.success and verdict.error)
    return [verdict.reason for verdict in verdicts]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        *((kind, CRASHED) for kind in CRASHES),
        *((kind, TOO_SLOW) for kind in HANGS),
        *((kind, NONSENSE) for kind in NONSENSES),
    ],
)
def test_a_failure_costs_its_own_verdict_alone(kind: str, reason: str) -> None:
    started = time.monotonic()
    assert reasons(judged(Scripted(), "a", kind, "b")) == ["", reason, ""]
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("zero", "ZeroDivisionError: division by zero"),
        ("exit", "SystemExit: 0"),
        ("exception without words", "Silent"),
        ("sleep", "took longer than 0.15 s"),
        ("None", "returned NoneType instead of a Verdict"),
        ("string", "returned str '1.0' instead of a Verdict"),
        ("number", "returned float 1.0 instead of a Verdict"),
        ("unprintable text", "returned Text instead of a Verdict"),
        ("NaN", "returned the reward float nan"),
        ("more than a float holds", "returned the reward int"),
        ("reward and error", "a reward and an error: but"),
        ("success is a word", "returned str 'yes' for the success"),
        ("error is a number", "returned int for the error"),
        ("reason is a list", "returned list for the reason"),
        ("components are a list", "returned list for the components"),
        ("component is a string", "returned the component str 'a': str '1'"),
    ],
)
def test_the_error_says_what_happened(kind: str, error: str) -> None:
    assert judged(Scripted(), kind)[0].error == error


def test_the_tasks_own_errors_and_failures_pass_unchanged() -> None:
    own = Verdict(success=False, reward=None, error="no compiler")
    partial = Verdict(success=False, reward=0.25, reason="half", components={"compiles": 1.0, "tests": 0})

    class Own(Scripted):
        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            return own if completion == "own" else partial

    assert judged(Own(), "own", "b") == [own, partial]


def test_after_some_hangs_the_rest_of_the_call_is_left_unjudged() -> None:
    verdicts = judged(Scripted(), *["sleep"] * (MOST_TIMEOUTS + 2), "a")
    assert reasons(verdicts) == [TOO_SLOW] * MOST_TIMEOUTS + [NOT_JUDGED] * 3
    assert verdicts[-1].error == "3 of this batch took longer than 0.15 s"
    assert reasons(judged(Scripted(), "a")) == [""]  # the next call begins anew


def test_the_users_interrupt_passes() -> None:
    def interrupted(*_: Any) -> Verdict:
        raise KeyboardInterrupt

    one = type("One", (Scripted,), {"score": interrupted})
    many = type("Many", (Scripted,), {"score_many": interrupted})
    for task in (one(), many()):
        with pytest.raises(KeyboardInterrupt):
            judged(task, "a")
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_real_interrupt_ends_a_verifier_that_hangs() -> None:
    class Interrupting(Scripted):
        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            signal.raise_signal(signal.SIGINT)
            return RIGHT

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            judged(Interrupting(), "a")
    finally:
        signal.signal(signal.SIGINT, before)


# Batches


def test_a_batch_is_judged_in_one_call() -> None:
    calls: list[int] = []

    class Batched(Scripted):
        def score_many(self, truths: Sequence[Any], completions: Sequence[str]) -> list[Verdict]:
            calls.append(len(completions))
            return [WRONG, RIGHT, NONSENSES["NaN"]]

    assert reasons(judged(Batched(), "a", "b", "c")) == ["no", "", NONSENSE]
    assert calls == [3]


@pytest.mark.parametrize(
    "fail",
    [
        lambda: 1 / 0,
        _exit,
        _recursion,
        lambda: [RIGHT],
        lambda: [RIGHT] * 3,
        lambda: None,
        lambda: (RIGHT for _ in range(2)),
    ],
    ids=["crash", "exit", "recursion", "too few", "too many", "None", "generator"],
)
def test_a_batch_that_fails_is_judged_one_by_one(
    fail: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Batched(Scripted):
        def score_many(self, truths: Sequence[Any], completions: Sequence[str]) -> list[Verdict]:
            return fail()

    assert reasons(judged(Batched(), "zero", "a")) == [CRASHED, ""]
    assert "one by one" in caplog.text


def test_the_callers_limit_passes_through_a_batch() -> None:
    class Batched(Scripted):
        def score_many(self, truths: Sequence[Any], completions: Sequence[str]) -> list[Verdict]:
            time.sleep(60)
            return [RIGHT]

    assert attempt(lambda: judged(Batched(), "a"), 0.1).reason == TOO_SLOW


# The time limit


def test_the_alarm_is_as_it_was_afterwards() -> None:
    def mine(*_: Any) -> None:
        raise AssertionError("an alarm that is not mine")

    before = signal.signal(signal.SIGALRM, mine)
    try:
        judged(Scripted(), "sleep", "zero", "a", "swallows everything thrice")
        assert signal.getsignal(signal.SIGALRM) is mine
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        time.sleep(0.12)  # the alarm goes off every .05 s
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_outer_limit_runs_on_while_inner_ones_are_kept() -> None:
    rounds = 0

    def outer() -> None:
        nonlocal rounds
        while True:
            attempt(lambda: time.sleep(0.05), 10)
            rounds += 1

    started = time.monotonic()
    assert attempt(outer, 0.4).reason == TOO_SLOW
    assert time.monotonic() - started < 5
    assert rounds <= 8


def test_an_inner_limit_that_is_longer_ends_with_the_outer_one() -> None:
    started = time.monotonic()
    assert attempt(lambda: [attempt(lambda: time.sleep(60), 60), time.sleep(60)], 0.1).reason == TOO_SLOW
    assert time.monotonic() - started < 5


def test_an_inner_limit_that_is_shorter_leaves_the_outer_one_its_time() -> None:
    with TimeLimit(60):
        assert attempt(lambda: time.sleep(60), 0.1).reason == TOO_SLOW
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 30 < left < 60
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.mark.parametrize("own", [0.3, 10.0])
def test_an_alarm_of_somebody_elses_rings_once(own: float) -> None:
    rings: list[float] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rings.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)  # once, not again and again
        late = attempt(lambda: time.sleep(0.5), own)
        assert (late is None) is (own > 0.5)
        time.sleep(0.1)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(rings) == 1


def test_an_alarm_that_nobody_answers_changes_nothing() -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert attempt(lambda: time.sleep(0.2), 10) is None
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_block_in_time_is_left_alone() -> None:
    with TimeLimit(0.05):
        done = "done"
    time.sleep(0.12)
    assert done == "done"
    limit = TimeLimit(0.05)
    with pytest.raises(TimeUpError) as caught, limit:
        time.sleep(60)
    assert caught.value.limit is limit


def test_an_alarm_while_a_limit_is_set_or_lifted_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    alarms: list[str] = []
    set_timer = signal.setitimer

    def ring_and_set(*arguments: Any) -> None:
        handler = signal.getsignal(signal.SIGALRM)
        if isinstance(getattr(handler, "__self__", None), TimeLimit):
            alarms.append("in time")
            signal.raise_signal(signal.SIGALRM)
        set_timer(*arguments)

    monkeypatch.setattr(signal, "setitimer", ring_and_set)
    assert attempt(lambda: "done", 60) == "done"
    assert alarms == ["in time"] * 2  # set, and lifted
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with TimeLimit(60):
        late = signal.getsignal(signal.SIGALRM)
    assert callable(late)
    assert late(signal.SIGALRM, None) is None


def test_outside_the_main_thread_and_without_alarms_there_is_no_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Slow(Scripted):
        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            time.sleep(LIMIT + 0.1)
            return super().score(truth, completion)

    found: list[Verdict] = []
    thread = threading.Thread(target=lambda: found.extend(judged(Slow(), "a", "zero")))
    thread.start()
    thread.join()
    assert reasons(found) == ["", CRASHED]
    monkeypatch.delattr(signal, "setitimer")
    assert reasons(judged(Slow(), "a")) == [""]
