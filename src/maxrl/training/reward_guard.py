"""Reward functions that may crash, hang or return nonsense: such a call costs the rollouts it failed on, nothing else."""

import asyncio
import ctypes
import functools
import inspect
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from maxrl.tasks import Verdict
from maxrl.tasks.guard import (
    CRASHED,
    MOST_TIMEOUTS,
    NO_REASON,
    NONSENSE,
    NOT_JUDGED,
    TOO_SLOW,
    FailureLog,
    attempt,
    failed,
    is_reward,
)
from maxrl.tasks.time_limits import told

logger = logging.getLogger(__name__)

FAILED = math.inf
"""Stands for a reward that was not reached, on its way through TRL, to whom None and NaN say "does not apply"."""

LEAST_SECONDS = 1.0
"""That one row may take when a batch that failed is judged row by row."""

_BLOCKED_AFTER = 1.0
"""Seconds without an answer after which an event loop counts as blocked."""


def guarded(function: Any, seconds: float) -> Any:
    """The same reward function, which never raises and returns one number, None or `FAILED` per completion.

    A call that raises, returns something else than one value per completion, or takes longer than `seconds` is made again
    row by row, so that only the rows at fault fail; each has its share of the time, and after some that ran out of it the
    rest is left unjudged. A value that is NaN, infinite or no number fails its row. None is passed on: the function does
    not apply there, or, from one that says `none_is_failure`, as a task's does, it has failed. An asynchronous function runs
    in a thread of its own, so that code in it that blocks cannot outlast the limit either.

    Logs `verifier/{name}: {reason}`, the fraction of rows that failed for each reason, once there was one, and warns of the
    first failure of each kind; a function with `tells_failures` does both for its own None.

    Reward models (modules, or names of models that TRL loads) pass unchanged.
    """
    if isinstance(function, (str, nn.Module)) or not callable(function):
        return function
    guard = _Guard(function, seconds)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 — asks whether calling it gives a coroutine
    ):

        async def call_async(*args: Any, **kwargs: Any) -> list[float | None]:
            return await guard.call_async(*args, **kwargs)

        wrapped: Any = call_async
    else:

        def call(*args: Any, **kwargs: Any) -> list[float | None]:
            return guard.call(*args, **kwargs)

        wrapped = call
    functools.update_wrapper(wrapped, function)
    wrapped.__name__ = guard.name
    return wrapped


def without_failures(rewards: Tensor) -> tuple[Tensor, float]:
    """Rewards (rollouts, functions) with every rollout that a function failed on missing altogether, and their fraction.

    What the other functions say of such a rollout is no reward: it would count the failure as a zero.
    """
    failures = torch.isinf(rewards).any(dim=1)
    return rewards.masked_fill(failures.unsqueeze(1), torch.nan), failures.float().mean().item()


class _Guard:
    def __init__(self, function: Any, seconds: float) -> None:
        self.function = function
        self.seconds = seconds
        self.name: str = getattr(function, "__name__", type(function).__name__)
        self._what = f"reward function '{self.name}'"
        self._none_fails = getattr(function, "none_is_failure", False)
        self._tells_failures = getattr(function, "tells_failures", False)
        self._reasons: set[str] = set()
        self._batch_reasons: set[str] = set()
        self._failures = FailureLog(
            self._what, "Such rollouts leave their groups; their fraction is logged as verifier/errors"
        )

    def call(self, *args: Any, **kwargs: Any) -> list[float | None]:
        count = len(kwargs["completions"])
        result = attempt(functools.partial(self.function, *args, **kwargs), self.seconds, self._what)
        values = self._values(result, count)
        whole = not isinstance(values, Verdict)
        if isinstance(values, Verdict):
            self._warn_of_batch(values, count)
            rows = _Rows(count, self.seconds)
            for row in range(count):
                if rows.may_go_on():
                    call = functools.partial(self.function, *rows.of(row, args), **rows.of_names(row, kwargs))
                    rows.add(self._value(attempt(call, rows.seconds, self._what)))
            values = rows.values
        return self._rewards(values, kwargs.get("log_metric"), explained=whole and self._tells_failures)

    async def call_async(self, *args: Any, **kwargs: Any) -> list[float | None]:
        count = len(kwargs["completions"])
        values = self._values(await self._attempt_async(args, kwargs, self.seconds), count)
        whole = not isinstance(values, Verdict)
        if isinstance(values, Verdict):
            self._warn_of_batch(values, count)
            rows = _Rows(count, self.seconds)
            for row in range(count):
                if rows.may_go_on():
                    call = self._attempt_async(rows.of(row, args), rows.of_names(row, kwargs), rows.seconds)
                    rows.add(self._value(await call))
            values = rows.values
        return self._rewards(values, kwargs.get("log_metric"), explained=whole and self._tells_failures)

    async def _attempt_async(self, args: Sequence[Any], kwargs: Mapping[str, Any], seconds: float) -> Any:
        """What the function returns, or the error it ends with as a `Verdict`."""

        async def call() -> Any:
            try:
                return await self.function(*args, **kwargs)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 — whatever passes would end the loop's thread
                return failed(CRASHED, told(error))

        loop = _Loop.current()
        future = loop.submit(call())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError:
            await asyncio.get_running_loop().run_in_executor(None, loop.abandon_if_blocked, self._what)
            return failed(TOO_SLOW, f"took longer than {seconds:g} s")

    def _value(self, result: Any) -> Any:
        """The value of a single row, or why there is none."""
        value = self._values(result, 1)
        return value if isinstance(value, Verdict) else value[0]

    def _values(self, result: Any, count: int) -> list[Any] | Verdict:
        """One value per completion, or why there are none."""
        if isinstance(result, Verdict):
            return result
        try:
            values = list(result)
        except TypeError:
            return failed(NONSENSE, f"returned {type(result).__name__} instead of a list of rewards")
        except Exception as error:  # noqa: BLE001 — a generator runs the function's code here
            return failed(CRASHED, told(error))
        if len(values) != count:
            return failed(NONSENSE, f"returned {len(values)} values for {count} completions")
        return values

    def _rewards(
        self, values: Sequence[Any], log_metric: Callable[[str, float], None] | None, *, explained: bool
    ) -> list[float | None]:
        """Numbers, None or `FAILED`; failures are counted and warned of, but for a None that is explained."""
        reasons: Counter[str] = Counter()
        found = [_number(value) for value in values]
        if self._none_fails:
            silent = failed(NO_REASON, "returned None, by which it says that it has failed")
            found = [silent if reward is None else reward for reward in found]
        rewards = [FAILED if isinstance(reward, Verdict) else reward for reward in found]
        failures = [reward for reward in found if isinstance(reward, Verdict)]
        if explained:
            failures = [failure for failure in failures if failure.reason != NO_REASON]
        self._failures.tell([*failures, *[_REACHED] * (len(found) - len(failures))])
        reasons.update(failure.reason for failure in failures)
        self._reasons |= reasons.keys()
        if log_metric is not None:
            for reason in sorted(self._reasons):
                log_metric(f"verifier/{self.name}: {reason}", reasons[reason] / len(values))
        return rewards

    def _warn_of_batch(self, failure: Verdict, count: int) -> None:
        if failure.reason not in self._batch_reasons:
            self._batch_reasons.add(failure.reason)
            self._reasons.add(failure.reason)
            logger.warning(
                "%s failed on %d completions: %s: %s. They are judged row by row",
                self._what,
                count,
                failure.reason,
                failure.error,
            )


_REACHED = Verdict(success=True, reward=1.0)


class _Rows:
    """The values of a batch that is judged row by row: each has its share of the time, and after some hangs it ends."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._hung = 0
        self.seconds = max(LEAST_SECONDS, seconds / count)
        self.values: list[Any] = []

    def may_go_on(self) -> bool:
        """Whether the next row is to be judged; if not, it has got its error."""
        if self._hung >= MOST_TIMEOUTS:
            self.values.append(
                failed(NOT_JUDGED, f"{self._hung} rows took longer than {self.seconds:g} s each")
            )
        return self._hung < MOST_TIMEOUTS

    def add(self, value: Any) -> None:
        self.values.append(value)
        self._hung += isinstance(value, Verdict) and value.reason == TOO_SLOW

    def of(self, row: int, columns: Sequence[Any]) -> list[Any]:
        return [_of_row(column, row, self._count) for column in columns]

    def of_names(self, row: int, columns: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: _of_row(column, row, self._count) for name, column in columns.items()}
        # What a single row logs is no metric of the batch.
        return own | {name: _nothing for name in ("log_metric", "log_extra") if name in own}


class _Loop:
    """The event loop in which asynchronous reward functions run, in a thread that nobody else waits for.

    TRL's own would stand still, and with it every time limit, while one of them blocks (`time.sleep`). All share one loop,
    as they do in TRL: what they open in it once (a session) stays good. A loop that is found blocked is replaced.
    """

    _current: "_Loop | None" = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="maxrl rewards", daemon=True)
        self._thread.start()

    @classmethod
    def current(cls) -> "_Loop":
        with cls._lock:
            if (
                cls._current is None or not cls._current._thread.is_alive()
            ):  # a child that was forked has no threads
                cls._current = cls()
            return cls._current

    def submit(self, call: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def abandon_if_blocked(self, what: str) -> None:
        """Let go of a loop that does not answer, and end its thread as soon as Python gets to run in it."""
        answered = threading.Event()
        with suppress(RuntimeError):  # it has ended since
            self._loop.call_soon_threadsafe(answered.set)
        if answered.wait(_BLOCKED_AFTER):
            return
        with _Loop._lock:
            if _Loop._current is not self:
                return
            _Loop._current = None
        logger.warning(
            "%s is asynchronous, but blocks: await what takes time (asyncio.sleep, asyncio.to_thread)", what
        )
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread = ctypes.c_ulong(self._thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))

    def _run(self) -> None:
        try:
            with suppress(SystemExit):  # from `abandon_if_blocked`
                self._loop.run_forever()
            self._loop.run_until_complete(_cancel_all())
        finally:
            self._loop.close()


async def _cancel_all() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _number(value: Any) -> float | Verdict | None:
    """A reward as a float: a number of any library, or None."""
    if value is None or isinstance(value, Verdict):
        return value
    if isinstance(value, str) or not hasattr(value, "__float__"):
        return failed(NONSENSE, f"returned {str(value)[:60]!r}")
    try:
        number = float(value)
    except Exception as error:  # noqa: BLE001 — an array of several numbers, or anything else
        return failed(NONSENSE, f"returned what is no number: {error}")
    return number if is_reward(number) else failed(NONSENSE, f"returned the reward {number}")


def _of_row(value: Any, row: int, count: int) -> Any:
    """A row of a column; what is none is the same for every row."""
    return value[row : row + 1] if isinstance(value, list) and len(value) == count else value


def _nothing(*_: Any) -> None:
    pass
