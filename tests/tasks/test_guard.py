"""`judge`: whatever a verifier does costs its own rollouts, nothing else."""

import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from maxrl.tasks import Example, Task, Verdict, judge, time_limits
from maxrl.tasks.guard import (
    CRASHED,
    FAILURES,
    MOST_TIMEOUTS,
    NONSENSE,
    NOT_JUDGED,
    TOO_SLOW,
    FailureLog,
    attempt,
    batch_seconds,
    reason_of,
)
from maxrl.tasks.time_limits import TimeLimit, TimeUpError, told

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
        ("zero", "ZeroDivisionError: division by zero (test_guard.py, line ??)"),
        ("exit", "SystemExit: 0 (test_guard.py, line ??)"),
        ("exception without words", "Silent (test_guard.py, line ??)"),
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
    found = judged(Scripted(), kind)[0].error
    assert found is not None
    assert re.sub(r"line \d+", "line ??", found) == error


def test_an_exception_that_was_not_raised_has_no_place() -> None:
    assert told(ValueError("three")) == "ValueError: three"


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


class Leaving:
    """A signal handler that ends the program, as a method and as an object that is called."""

    def on_signal(self, *_: Any) -> None:
        raise SystemExit(143)

    __call__ = on_signal


def _exit_on_signal(*_: Any) -> None:
    raise SystemExit(143)


@pytest.mark.parametrize("handler", [_exit_on_signal, Leaving().on_signal, Leaving()])
@pytest.mark.parametrize("batch", [True, False])
def test_what_a_signal_handler_of_the_program_raises_passes(
    handler: Callable[..., None], batch: bool
) -> None:
    def score(*_: Any) -> Verdict:
        signal.raise_signal(signal.SIGTERM)
        return RIGHT

    task = type("Ended", (Scripted,), {"score_many" if batch else "score": score})()
    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(SystemExit):
            judged(task, "a")
        assert reasons(judged(Scripted(), "exit")) == [CRASHED]  # the verifier's own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_the_programs_own_alarm_raises_passes_and_the_verifiers_own_does_not() -> None:
    def late(*_: Any) -> None:
        raise OSError("alarm")

    class OwnAlarm(Scripted):
        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            signal.signal(signal.SIGALRM, late)  # and leaves it there
            signal.raise_signal(signal.SIGALRM)
            return RIGHT

    before = signal.signal(signal.SIGALRM, late)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(OSError, match="alarm"):
            attempt(lambda: time.sleep(60), 10)
        assert reasons(judged(OwnAlarm(), "a")) == [CRASHED]
    finally:
        signal.signal(signal.SIGALRM, before)


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


@pytest.mark.parametrize("hang", HANGS)
def test_a_batch_that_hangs_is_judged_one_by_one(hang: str, caplog: pytest.LogCaptureFixture) -> None:
    class Batched(Scripted):
        def score_many(self, truths: Sequence[Any], completions: Sequence[str]) -> list[Verdict]:
            return [self.score(truth, text) for truth, text in zip(truths, completions, strict=True)]

    started = time.monotonic()
    assert reasons(judged(Batched(), "a", hang, "b")) == ["", TOO_SLOW, ""]
    assert time.monotonic() - started < 20
    assert "task scripted: score_many failed on 3 completions: took longer than 0.15 s" in caplog.text


def test_of_a_batch_where_all_hang_the_rest_is_left_unjudged() -> None:
    class Batched(Scripted):
        def score_many(self, truths: Sequence[Any], completions: Sequence[str]) -> list[Verdict]:
            time.sleep(60)
            return [RIGHT]

    verdicts = judged(Batched(), *["sleep"] * (MOST_TIMEOUTS + 2))
    assert reasons(verdicts) == [TOO_SLOW] * MOST_TIMEOUTS + [NOT_JUDGED] * 2


def test_a_large_batch_has_more_time() -> None:
    class Batched(Scripted):
        def score_many(self, truths: Sequence[Any], completions: Sequence[str]) -> list[Verdict]:
            time.sleep(2 * LIMIT)
            return [RIGHT] * len(completions)

        def score(self, truth: Mapping[str, Any], completion: str) -> Verdict:
            raise AssertionError("was in time")

    assert reasons(judged(Batched(), *["a"] * 40)) == [""] * 40
    assert [batch_seconds(Batched(), count) for count in (0, 1, 10, 20, 1000)] == pytest.approx(
        [LIMIT, LIMIT, LIMIT, 2 * LIMIT, 100 * LIMIT]
    )


def test_a_caller_can_ask_to_be_told_of_a_batch_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    class Batched(Scripted):
        def score_many(self, truths: Sequence[Any], completions: Sequence[str]) -> list[Verdict]:
            return [RIGHT]

    told: list[str] = []
    assert judge(Batched(), [{}, {}], ["a", "b"], batch_failed=told.append) == [RIGHT, RIGHT]
    assert told == ["score_many failed on 2 completions: returned 1 verdicts"]
    assert not caplog.records


# What is said of errors


def error(reason: str, text: str) -> Verdict:
    return Verdict(success=False, reward=None, reason=reason, error=text)


def test_a_verdict_is_counted_under_its_reason_or_as_a_failure_of_the_verifier() -> None:
    verdicts = (RIGHT, WRONG, error("", "no compiler"), error("no compiler", "there is none"))
    assert [reason_of(verdict) for verdict in verdicts] == ["", "no", "verifier failed", "no compiler"]


def test_every_kind_of_error_is_warned_of_once_with_its_text(caplog: pytest.LogCaptureFixture) -> None:
    log = FailureLog("task x", "So it is")
    log.tell([RIGHT, WRONG])
    log.tell(
        [
            RIGHT,
            error("", "no C compiler\n  here"),
            error("", "no C compiler there"),
            error("slow", "took 3 s"),
        ]
    )
    log.tell([error("", "no C compiler anywhere"), error("slow", "took 4 s"), error("slow", "timed out")])
    assert [record.getMessage() for record in caplog.records] == [
        "task x: 2 of 4 completions got no verdict: verifier failed: no C compiler here. So it is",
        "task x: 1 of 4 completions got no verdict: slow: took 3 s. So it is",
        "task x: 1 of 3 completions got no verdict: slow: timed out. So it is",
    ]


def test_errors_of_ever_new_kinds_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log = FailureLog("task x", "So it is")
    for number in range(100):
        log.tell([error("", f"{number} " + "very " * 1000)])
    assert len(caplog.records) == 20
    assert max(len(record.getMessage()) for record in caplog.records) < 700


# The watchdog


@pytest.fixture
def fast_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "_GLANCE", 0.02)
    deadline = time.monotonic() + 5
    while time_limits._WATCHDOG._thread is not None and time.monotonic() < deadline:
        time.sleep(0.05)  # that of the tests before, which still looks every second


def test_what_outlasts_its_limit_is_named_ever_less_often(
    fast_watchdog: None, caplog: pytest.LogCaptureFixture
) -> None:
    def wait_in_a_thread() -> None:
        time.sleep(1)

    thread = threading.Thread(target=attempt, args=(wait_in_a_thread, 0.1, "task x: score"))
    thread.start()
    thread.join()
    said = [record.getMessage() for record in caplog.records]
    assert 2 <= len(said) <= 4  # after .2, .4 and .8 s
    assert all(
        re.match(
            r"task x: score has been running for \d s, now in wait_in_a_thread \(test_guard.py, line \d+\)\. Its limit is "
            r"0\.1 s, but it cannot be interrupted there",
            line,
        )
        for line in said
    )
    assert "WorkerPool" in said[0]


def test_a_block_in_time_is_not_named_and_the_watchdog_goes(
    fast_watchdog: None, caplog: pytest.LogCaptureFixture
) -> None:
    with TimeLimit(10):
        assert time_limits._WATCHDOG._thread is not None
        time.sleep(0.1)
    deadline = time.monotonic() + 5
    while time_limits._WATCHDOG._thread is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert time_limits._WATCHDOG._thread is None
    assert not caplog.records


def test_a_thread_that_is_gone_and_a_missing_standard_error_do_not_stop_the_watchdog(
    fast_watchdog: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "__stderr__", None)
    monkeypatch.setattr(sys, "stderr", None)
    gone = TimeLimit(0.05, "gone")
    thread = threading.Thread(target=gone.__enter__)
    thread.start()
    thread.join()
    time.sleep(0.3)
    gone.__exit__()
    assert "gone has been running for 0 s. Its limit" in caplog.text


def test_what_a_verifier_makes_of_its_time_being_up_does_not_count() -> None:
    def swallows() -> str:
        try:
            time.sleep(5)
        except:  # noqa: E722
            return "a verdict"
        return "done"

    def renames() -> str:
        try:
            time.sleep(5)
        except BaseException as error:
            raise ValueError("what?") from error
        return "done"

    for call in (swallows, renames):
        assert attempt(call, 0.05).reason == TOO_SLOW
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_limit_that_cannot_be_watched_holds_and_leaves_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "_WATCHDOG", time_limits._Watchdog())

    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert attempt(lambda: time.sleep(5), 0.05).reason == TOO_SLOW
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)

    def interrupted(_: TimeLimit) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time_limits._WATCHDOG, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        attempt(lambda: "done", 5.0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_watchdog_ends_with_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = time_limits._Watchdog()
    monkeypatch.setattr(time_limits, "_WATCHDOG", watchdog)
    watchdog.end()  # where nothing was ever watched
    watchdog = time_limits._Watchdog()
    monkeypatch.setattr(time_limits, "_WATCHDOG", watchdog)
    with TimeLimit(60.0):
        thread = watchdog._thread
        assert thread is not None
        assert thread.is_alive()
        watchdog.end()
        assert not thread.is_alive()


def test_a_forked_child_has_limits_of_its_own() -> None:
    with TimeLimit(60.0, "the parent's"):
        child = os.fork()
        if child == 0:
            clean = not time_limits._WATCHDOG._running and time_limits._WATCHDOG._thread is None
            os._exit(0 if clean and not time_limits._WATCHDOG._lock.locked() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert time_limits._WATCHDOG._running


def test_a_batch_that_fails_again_and_again_is_told_once_where_it_is_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = FailureLog("task t", "…")
    for _ in range(3):
        log.tell_batch(f"score_many failed on 4 completions: ValueError: {'long ' * 400}")
    log.tell_batch("score_many failed on 4 completions: took longer than 1 s")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert max(map(len, told)) < 600


def test_without_end_there_is_neither_limit_nor_watch() -> None:
    with TimeLimit(math.inf) as nothing:
        assert nothing is None
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert not time_limits._WATCHDOG._running
    assert attempt(lambda: "done", math.inf) == "done"


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
