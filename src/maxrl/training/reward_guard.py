"""Reward functions that may crash, hang or return nonsense: such a call costs the rollouts it failed on, nothing else."""

import asyncio
import functools
import inspect
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
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
    shown,
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
    wrapped.seen_reasons = (guard.seen_reasons, *getattr(function, "seen_reasons", ()))
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
        self.seen_reasons: set[str] = set()
        self._loop: _Loop | None = None
        self._failures = FailureLog(
            self._what, "Such rollouts leave their groups; their fraction is logged as verifier/errors"
        )

    def call(self, *args: Any, **kwargs: Any) -> list[float | None]:
        count = len(kwargs["completions"])
        values = self._attempt(count, args, kwargs, self.seconds)
        whole = not isinstance(values, Verdict)
        if isinstance(values, Verdict):
            self._warn_of_batch(values, count)
            rows = _Rows(count, self.seconds)
            for row in range(count):
                if rows.may_go_on():
                    rows.add(self._attempt(1, rows.of(row, args), rows.of_names(row, kwargs), rows.seconds))
            values = rows.values
        return self._rewards(values, kwargs.get("log_metric"), explained=whole and self._tells_failures)

    async def call_async(self, *args: Any, **kwargs: Any) -> list[float | None]:
        count = len(kwargs["completions"])
        values = await self._attempt_async(count, args, kwargs, self.seconds)
        whole = not isinstance(values, Verdict)
        if isinstance(values, Verdict):
            self._warn_of_batch(values, count)
            rows = _Rows(count, self.seconds)
            for row in range(count):
                if rows.may_go_on():
                    names = rows.of_names(row, kwargs)
                    rows.add(await self._attempt_async(1, rows.of(row, args), names, rows.seconds))
            values = rows.values
        return self._rewards(values, kwargs.get("log_metric"), explained=whole and self._tells_failures)

    def _attempt(
        self, count: int, args: Sequence[Any], kwargs: Mapping[str, Any], seconds: float
    ) -> "list[_Value] | Verdict":
        """One value per completion, or why there are none."""
        # What is returned is read within the limit: a generator runs the function's code, and so may a number.
        return attempt(lambda: _values(self.function(*args, **kwargs), count), seconds, self._what)

    async def _attempt_async(
        self, count: int, args: Sequence[Any], kwargs: Mapping[str, Any], seconds: float
    ) -> "list[_Value] | Verdict":
        async def call() -> list[_Value] | Verdict:
            try:
                return _values(await self.function(*args, **kwargs), count)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 — whatever passes would end the loop's thread
                return failed(CRASHED, told(error))

        if self._loop is None or not self._loop.runs():  # a child that was forked has no threads
            self._loop = _Loop()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._loop.submit(call())), seconds)
        except TimeoutError:
            if not await asyncio.get_running_loop().run_in_executor(None, self._loop.answers):
                self._loop.stop()
                self._loop = None
                self._failures.tell_blocked()
            return failed(TOO_SLOW, f"took longer than {seconds:g} s")

    def _rewards(
        self,
        values: "Sequence[_Value]",
        log_metric: Callable[[str, float], None] | None,
        *,
        explained: bool,
    ) -> list[float | None]:
        """Numbers, None or `FAILED`; failures are counted and warned of, but for a None that is explained."""
        found = list(values)
        if self._none_fails:
            silent = failed(NO_REASON, "returned None, by which it says that it has failed")
            found = [silent if reward is None else reward for reward in found]
        rewards = [FAILED if isinstance(reward, Verdict) else reward for reward in found]
        failures = [reward for reward in found if isinstance(reward, Verdict)]
        if explained:
            failures = [failure for failure in failures if failure.reason != NO_REASON]
        self._failures.tell(failures, len(found))
        reasons = Counter(failure.reason for failure in failures)
        self.seen_reasons.update(reasons)
        if log_metric is not None:
            for reason in sorted(self.seen_reasons):
                log_metric(f"verifier/{self.name}: {reason}", reasons[reason] / len(values))
        return rewards

    def _warn_of_batch(self, failure: Verdict, count: int) -> None:
        self.seen_reasons.add(failure.reason)
        self._failures.tell_batch(f"failed on {count} completions: {failure.reason}: {failure.error}")


class _Rows:
    """The values of a batch that is judged row by row: each has its share of the time, and after some hangs it ends."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._hung = 0
        self.seconds = max(LEAST_SECONDS, seconds / count)
        self.values: list[_Value] = []

    def may_go_on(self) -> bool:
        """Whether the next row is to be judged; if not, it has got its error."""
        if self._hung >= MOST_TIMEOUTS:
            self.values.append(
                failed(NOT_JUDGED, f"{self._hung} rows took longer than {self.seconds:g} s each")
            )
        return self._hung < MOST_TIMEOUTS

    def add(self, outcome: "list[_Value] | Verdict") -> None:
        """Keep what came of the next row."""
        self.values += [outcome] if isinstance(outcome, Verdict) else outcome
        self._hung += isinstance(outcome, Verdict) and outcome.reason == TOO_SLOW

    def of(self, row: int, columns: Sequence[Any]) -> list[Any]:
        return [_of_row(column, row, self._count) for column in columns]

    def of_names(self, row: int, columns: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: _of_row(column, row, self._count) for name, column in columns.items()}
        # What a single row logs is no metric of the batch.
        return own | {name: _nothing for name in ("log_metric", "log_extra") if name in own}


class _Loop:
    """The event loop in which an asynchronous reward function runs, in a thread that nobody else waits for.

    TRL's own would stand still, and with it every time limit, while the function blocks (`time.sleep`). What it opens in its
    loop once (a session) stays good, unless the loop is found blocked and given up.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="maxrl rewards", daemon=True)
        self._thread.start()

    def runs(self) -> bool:
        return self._thread.is_alive()

    def submit(self, call: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    def answers(self) -> bool:
        """Whether the loop comes to what it is asked to do, within `_BLOCKED_AFTER`."""
        answered = threading.Event()
        self._loop.call_soon_threadsafe(answered.set)
        return answered.wait(_BLOCKED_AFTER)

    def stop(self) -> None:
        """End the loop and its thread, as soon as it gets to run: nothing ends what blocks it but itself."""
        # Not by an exception set from here: until it is raised, CPython 3.11 stands still in threads that are traced.
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()


_Value = float | Verdict | None
"""What a function says of one completion; a `Verdict` is an error."""


def _values(result: Any, count: int) -> list[_Value] | Verdict:
    """One value per completion, or why there are none. May run code of the function, which may do anything."""
    if isinstance(result, Verdict):
        return result
    try:
        items = iter(result)
    except TypeError:
        return failed(NONSENSE, f"returned {type(result).__name__} instead of a list of rewards")
    values = list(items)
    if len(values) != count:
        return failed(NONSENSE, f"returned {len(values)} values for {count} completions")
    return [_number(value) for value in values]


def _number(value: Any) -> _Value:
    """A reward as a float: a number of any library, or None."""
    if value is None or isinstance(value, Verdict):
        return value
    if isinstance(value, str) or not hasattr(value, "__float__"):
        return failed(NONSENSE, f"returned {shown(value)}")
    try:
        number = float(value)
    except Exception as error:  # noqa: BLE001 — an array of several numbers, or anything else
        return failed(NONSENSE, f"returned what is no number: {told(error)}")
    return number if is_reward(number) else failed(NONSENSE, f"returned the reward {number}")


def _of_row(value: Any, row: int, count: int) -> Any:
    """A row of a column; what is none is the same for every row."""
    return value[row : row + 1] if isinstance(value, list) and len(value) == count else value


def _nothing(*_: Any) -> None:
    pass
