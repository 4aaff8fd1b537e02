"""Verdicts from verifiers that may crash, hang or return nonsense: such a one costs its own rollouts, nothing else."""

import logging
import math
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

from maxrl.tasks.base import Task, Verdict

logger = logging.getLogger(__name__)

CRASHED, TOO_SLOW, NONSENSE, NOT_JUDGED = (
    "verifier crashed",
    "verifier too slow",
    "verifier returned nonsense",
    "not judged after a verifier that hung",
)
FAILURES = (CRASHED, TOO_SLOW, NONSENSE, NOT_JUDGED)
"""Every `reason` of an error that is not the task's own."""

MOST_TIMEOUTS = 3
"""Verdicts of one call that may run out of time; the others of the call are then left unjudged."""

_AGAIN_AFTER = 0.05
"""Seconds until the alarm goes off once more: a verifier may swallow any exception, this one included."""


class TimeUpError(BaseException):
    """Raised inside code that has used up its time; no Exception, so that `except Exception` does not swallow it."""


@contextmanager
def time_limit(seconds: float) -> Generator[None]:
    """Raise `TimeUpError` in the block once it has run for `seconds`.

    It comes as a signal to Python's interpreter: whatever waits, computes in Python or matches a regular expression is
    interrupted; one single call into C that never asks for signals (10**10**10) is not. Outside the main thread, which
    alone can get signals, and on systems without them there is no limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    armed = True

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        if armed:
            raise TimeUpError

    handler = signal.signal(signal.SIGALRM, interrupt)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_AFTER)
    try:
        try:
            yield
        finally:
            armed = False
    finally:  # also where the alarm comes in the line above; it comes again much later than these lines take
        armed = False
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        signal.signal(signal.SIGALRM, handler)


def judge(task: Task, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
    """A verdict per completion; never raises, whatever the task does.

    A verifier that crashes, takes longer than `task.time_limit` or returns nonsense (no `Verdict`, a reward that is NaN,
    infinite or no number, a reward and an error at once) gives an error, whose `reason` is one of `FAILURES`. A batch
    that fails as a whole (`score_many` raises, or returns too few) is judged one by one.
    """
    own_batch = type(task).score_many is not Task.score_many
    if own_batch:
        try:
            verdicts = task.score_many(truths, completions)
            if len(verdicts) == len(completions):
                return [checked_verdict(verdict) for verdict in verdicts]
            logger.warning(
                "task %s: score_many returned %d verdicts for %d completions, which are judged one by one",
                task.name,
                len(verdicts),
                len(completions),
            )
        except Exception:
            logger.warning("task %s: score_many failed; judging one by one", task.name, exc_info=True)
    hung = 0
    judged: list[Verdict] = []
    for truth, completion in zip(truths, completions, strict=True):
        if hung >= MOST_TIMEOUTS:
            judged.append(failed(NOT_JUDGED, f"{hung} of this batch took longer than {task.time_limit:g} s"))
            continue
        judged.append(checked_verdict(attempt(partial(task.score, truth, completion), task.time_limit)))
        hung += judged[-1].reason == TOO_SLOW
    return judged


def attempt(call: Callable[[], Any], seconds: float) -> Any:
    """What a call returns, or the error it ends with as a `Verdict`."""
    try:
        with time_limit(seconds):
            return call()
    except TimeUpError:
        return failed(TOO_SLOW, f"took longer than {seconds:g} s")
    except Exception as error:  # noqa: BLE001 — foreign code may fail in any way
        return failed(CRASHED, f"{type(error).__name__}: {error}")


def checked_verdict(verdict: object) -> Verdict:
    """The verdict, or an error where it is none."""
    if not isinstance(verdict, Verdict):
        return failed(NONSENSE, f"returned {_shown(verdict)} instead of a Verdict")
    if verdict.error is not None:
        return (
            verdict if verdict.reward is None else failed(NONSENSE, f"a reward and an error: {verdict.error}")
        )
    if not is_reward(verdict.reward):
        return failed(NONSENSE, f"returned the reward {_shown(verdict.reward)}")
    return verdict


def is_reward(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def failed(reason: str, error: str) -> Verdict:
    """The verdict of a verifier that reached none."""
    return Verdict(success=False, reward=None, reason=reason, error=error)


def _shown(value: object) -> str:
    if isinstance(value, str | int | float):
        return f"{type(value).__name__} {value!r:.60}"
    return type(value).__name__  # whose repr may do anything
