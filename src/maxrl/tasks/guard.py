"""Verdicts from verifiers that may crash, hang or return nonsense: such a one costs its own rollouts, nothing else."""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any, cast

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

    def __init__(self, limit: "TimeLimit") -> None:
        super().__init__("time is up")
        self.limit = limit


class TimeLimit:
    """Raises `TimeUpError` in a `with` block once it has run for `seconds`. Within another limit that one holds, too.

    It comes as a signal to Python's interpreter: whatever waits, computes in Python or matches a regular expression is
    interrupted. Not so one single call into C that never asks for signals (10**10**10), and an endless loop that swallows
    whatever is raised in it (`except:`) ends by chance alone: such code belongs into a `maxrl.tasks.workers.WorkerPool`.
    Outside the main thread, which alone can get signals, and on systems without them there is no limit.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._in_force = False

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            return
        self._outer_left, self._outer_interval = signal.getitimer(signal.ITIMER_REAL)
        self._started = time.monotonic()
        self._outer_handler = signal.signal(signal.SIGALRM, self._ring)
        self._in_force = True
        signal.setitimer(
            signal.ITIMER_REAL, min(self._seconds, self._outer_left or self._seconds), _AGAIN_AFTER
        )

    def __exit__(self, *_: object) -> None:
        if not self._in_force:
            return
        self._in_force = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._outer_handler)
        if self._outer_left:
            rest = self._outer_left - (time.monotonic() - self._started)
            # Where its time is up it has rung in the block already, and does so again only if it was to.
            signal.setitimer(
                signal.ITIMER_REAL, rest if rest > 0 else self._outer_interval, self._outer_interval
            )

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if not self._in_force or _is_setting_limits(frame):
            return
        rest = self._seconds - (time.monotonic() - self._started)
        if self._outer_left and rest > 0:  # it is the alarm that was set before this one
            signal.setitimer(signal.ITIMER_REAL, min(rest, self._outer_interval or rest), _AGAIN_AFTER)
            if callable(self._outer_handler):
                self._outer_handler(number, frame)
            return
        raise TimeUpError(self)


def _is_setting_limits(frame: FrameType | None) -> bool:
    """Whether a limit is just being set or lifted, which no alarm may interrupt; it goes off again."""
    while frame is not None:
        if frame.f_code in (TimeLimit.__enter__.__code__, TimeLimit.__exit__.__code__):
            return True
        frame = frame.f_back
    return False


def judge(task: Task, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]) -> list[Verdict]:
    """A verdict per completion, whatever the task does.

    A verifier that crashes, takes longer than `task.time_limit` or returns nonsense (no `Verdict`, a field of another
    type, a reward that is NaN, infinite or no number, a reward and an error at once) gives an error, whose `reason` is one
    of `FAILURES`. A batch that fails as a whole (`score_many` raises, or returns too few) is judged one by one. What passes
    is `KeyboardInterrupt`, and the time limit of whoever called.
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
        except (KeyboardInterrupt, TimeUpError):  # the user's, and the limit of whoever called
            raise
        except BaseException:
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
    limit = TimeLimit(seconds)
    try:
        with limit:
            return call()
    except TimeUpError as up:
        if up.limit is not limit:  # the limit of whoever called
            raise
        return failed(TOO_SLOW, f"took longer than {seconds:g} s")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 — foreign code may fail in any way, sys.exit() included
        return failed(CRASHED, _told(error))


def checked_verdict(verdict: object) -> Verdict:
    """The verdict, or an error where it is none."""
    if not isinstance(verdict, Verdict):
        return failed(NONSENSE, f"returned {_shown(verdict)} instead of a Verdict")
    flaw = _flaw(verdict)
    return failed(NONSENSE, flaw) if flaw else verdict


def _flaw(verdict: Verdict) -> str:
    """What is wrong with a verdict; "" where nothing is. Its fields may hold anything."""
    success, reward, reason, error, components = cast(
        "tuple[object, ...]",
        (verdict.success, verdict.reward, verdict.reason, verdict.error, verdict.components),
    )
    if not isinstance(success, bool):
        return f"returned {_shown(success)} for the success"
    if not isinstance(reason, str):
        return f"returned {_shown(reason)} for the reason"
    if not isinstance(components, Mapping):
        return f"returned {_shown(components)} for the components"
    for name, value in cast("Mapping[object, object]", components).items():
        if not isinstance(name, str) or not is_reward(value):
            return f"returned the component {_shown(name)}: {_shown(value)}"
    if error is None:
        return "" if is_reward(reward) else f"returned the reward {_shown(reward)}"
    if not isinstance(error, str):
        return f"returned {_shown(error)} for the error"
    return "" if reward is None else f"a reward and an error: {error}"


def is_reward(value: object) -> bool:
    """Whether a value is a number that a float can hold, and finite."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


def failed(reason: str, error: str) -> Verdict:
    """The verdict of a verifier that reached none."""
    return Verdict(success=False, reward=None, reason=reason, error=error)


def _told(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 — an exception may be unable to say what it is
        return type(error).__name__


def _shown(value: object) -> str:
    kind = type(value).__name__
    if type(value) is str:
        return f"{kind} {value[:60]!r}"
    return f"{kind} {value!r}" if type(value) in (bool, float) else kind  # whose repr may do anything
