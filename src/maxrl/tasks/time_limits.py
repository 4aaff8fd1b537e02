"""Foreign code within this process: a limit on its time, and what is to be said of what it raises."""

import atexit
import logging
import math
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType

logger = logging.getLogger(__name__)

_AGAIN_AFTER = 0.05
"""Seconds until the alarm goes off once more: a verifier may swallow any exception, this one included."""

_GLANCE = 1.0
"""Seconds between two looks of the watchdog."""


class TimeUpError(BaseException):
    """Raised inside code that has used up its time; no Exception, so that `except Exception` does not swallow it."""

    def __init__(self, limit: "TimeLimit") -> None:
        super().__init__("time is up")
        self.limit = limit


class TimeLimit:
    """Raises `TimeUpError` in a `with` block once it has run for `seconds`. Within another limit that one holds, too.

    It comes as a signal to Python's interpreter: whatever waits, computes in Python or matches a regular expression is
    interrupted. Not so one single call into C that never asks for signals (`sum(range(10**11))`), and an endless loop that
    swallows whatever is raised in it (`except:`) ends by chance alone: such code belongs into a
    `maxrl.tasks.workers.WorkerPool`. Outside the main thread, which alone can get signals, and on systems without them there
    is no limit. What a limit cannot end is at least named in the log, once it has run for twice as long (see `_Watchdog`).

    Args:
        seconds: how long the block may run; `math.inf` for as long as it likes.
        what: what runs in it, for the log.
    """

    def __init__(self, seconds: float, what: str = "code") -> None:
        self.seconds = seconds
        self.what = what
        self.started = 0.0
        self.thread = 0
        self.rang = False
        """Whether the time was up: what the block made of it, a value or another exception, is none of its results."""
        self._in_force = False

    def __enter__(self) -> None:
        if self.seconds == math.inf:
            return
        self.started, self.thread = time.monotonic(), threading.get_ident()
        _WATCHDOG.add(self)
        # Last: what comes between an alarm that is set and the block would leave it behind, to ring in other code.
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
            self._arm()

    def _arm(self) -> None:
        self._outer_left, self._outer_interval = signal.getitimer(signal.ITIMER_REAL)
        self._outer_handler = signal.signal(signal.SIGALRM, self._ring)
        self._in_force = True
        signal.setitimer(
            signal.ITIMER_REAL, min(self.seconds, self._outer_left or self.seconds), _AGAIN_AFTER
        )

    def __exit__(self, *_: object) -> None:
        self._disarm()
        _WATCHDOG.remove(self)

    def _disarm(self) -> None:
        if not self._in_force:
            return
        self._in_force = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._outer_handler)
        if self._outer_left:
            rest = self._outer_left - (time.monotonic() - self.started)
            # Where its time is up it has rung in the block already, and does so again only if it was to.
            signal.setitimer(
                signal.ITIMER_REAL, rest if rest > 0 else self._outer_interval, self._outer_interval
            )

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if not self._in_force or _is_setting_limits(frame):
            return
        rest = self.seconds - (time.monotonic() - self.started)
        if self._outer_left and rest > 0:  # it is the alarm that was set before this one
            signal.setitimer(signal.ITIMER_REAL, min(rest, self._outer_interval or rest), _AGAIN_AFTER)
            if callable(self._outer_handler):
                self._outer_handler(number, frame)
            return
        self.rang = True
        raise TimeUpError(self)


def _is_setting_limits(frame: FrameType | None) -> bool:
    """Whether a limit is just being set or lifted, which no alarm may interrupt; it goes off again."""
    while frame is not None:
        if frame.f_code in (TimeLimit.__enter__.__code__, TimeLimit.__exit__.__code__):
            return True
        frame = frame.f_back
    return False


class _Watchdog:
    """Says which block runs on although its time has long been up, and for how long: at 2, 4, 8, … times its limit.

    A thread that looks every second, and only while blocks run. A call into C may keep the interpreter to itself: then it is
    named when it has ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[TimeLimit, float] = {}  # and the time of the next warning
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def add(self, limit: TimeLimit) -> None:
        with self._lock:
            self._running[limit] = limit.started + 2 * limit.seconds
            if self._thread is None:
                thread = threading.Thread(target=self._watch, name="maxrl watchdog", daemon=True)
                with suppress(RuntimeError):  # no more threads: the limit holds all the same
                    thread.start()
                    self._thread = thread

    def remove(self, limit: TimeLimit) -> None:
        with self._lock:
            self._running.pop(limit, None)

    def end(self) -> None:
        """For the interpreter's end, in which a thread that wakes up would be torn down wherever it is."""
        self._over.set()
        if (thread := self._thread) is not None:
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_GLANCE):
            now = time.monotonic()
            with self._lock:
                if not self._running:
                    self._thread = None
                    return
                late = [limit for limit, warn_at in self._running.items() if now >= warn_at]
                self._running |= {limit: limit.started + 2 * (now - limit.started) for limit in late}
            for limit in late:
                self._warn(limit, now - limit.started)

    def _warn(self, limit: TimeLimit, seconds: float) -> None:
        frame = sys._current_frames().get(limit.thread)  # pyright: ignore[reportPrivateUsage]
        where = f", now in {frame.f_code.co_name} ({_place(frame, frame.f_lineno)})" if frame else ""
        logger.warning(
            "%s has been running for %.0f s%s. Its limit is %g s, but it cannot be interrupted there: one long call into C, "
            "a loop that swallows every exception, or a thread other than the main one. Such code belongs into a "
            "maxrl.tasks.workers.WorkerPool",
            limit.what,
            seconds,
            where,
            limit.seconds,
        )


_WATCHDOG = _Watchdog()
# A child has none of the parent's threads and blocks, and a lock that may have been held.
os.register_at_fork(after_in_child=_WATCHDOG.__init__)
atexit.register(_WATCHDOG.end)


def comes_from_a_signal(error: BaseException) -> bool:
    """Whether a signal handler of the program raised it, in the midst of a verifier that has nothing to do with it.

    A verifier may bring handlers of its own for its alarms: what they raise is the verifier's. Those that were there before
    are called by `TimeLimit`.
    """
    codes = {TimeLimit._ring.__code__}  # pyright: ignore[reportPrivateUsage]
    for number in signal.Signals:
        if number.name not in ("SIGALRM", "SIGVTALRM", "SIGPROF"):
            codes |= _codes(signal.getsignal(number))
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False


def _codes(handler: object) -> set[CodeType]:
    """The code of a function, a method, or an object that can be called; none for what is not Python's."""
    inner = (handler, type(handler).__call__) if callable(handler) else ()
    found = (getattr(part, "__code__", None) for part in inner)
    return {code for code in found if isinstance(code, CodeType)}


def told(error: BaseException) -> str:
    """What was raised, and where."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = f" ({_place(traceback.tb_frame, traceback.tb_lineno)})" if traceback else ""
    try:
        return f"{type(error).__name__}: {error}{where}"
    except Exception:  # noqa: BLE001 — an exception may be unable to say what it is
        return f"{type(error).__name__}{where}"


def _place(frame: FrameType, line: int) -> str:
    return f"{Path(frame.f_code.co_filename).name}, line {line}"
