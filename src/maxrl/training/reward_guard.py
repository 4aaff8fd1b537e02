"""Reward functions that may crash, hang or return nonsense: such a call costs the rollouts it failed on, nothing else."""

import asyncio
import functools
import inspect
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maxrl.tasks import Verdict
from maxrl.tasks.guard import (
    CRASHED,
    MOST_TIMEOUTS,
    NONSENSE,
    NOT_JUDGED,
    TOO_SLOW,
    attempt,
    failed,
    is_reward,
)

logger = logging.getLogger(__name__)

FAILED = math.inf
"""Stands for a reward that was not reached, on its way through TRL, to whom None and NaN say "does not apply"."""

LEAST_SECONDS = 1.0
"""That one row may take when a batch that failed is judged row by row."""


def guarded(function: Any, seconds: float) -> Any:
    """The same reward function, which never raises and returns one number, None or `FAILED` per completion.

    A call that raises, returns something else than one value per completion, or takes longer than `seconds` is made again
    row by row, so that only the rows at fault fail; each has its share of the time, and after some that ran out of it the
    rest is left unjudged. A value that is NaN, infinite or no number fails its row. None is passed on: the function does
    not apply there, or, from one that says `none_is_failure`, as a task's does, it has failed. An asynchronous function is
    judged as a whole.

    Logs `verifier/{name}: {reason}`, the fraction of rows that failed for each reason, once there was one, and warns of the
    first failure of each kind.

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
        self._none_fails = getattr(function, "none_is_failure", False)
        self._reasons: set[str] = set()

    def call(self, *args: Any, **kwargs: Any) -> list[float | None]:
        count = len(kwargs["completions"])
        values = self._values(attempt(functools.partial(self.function, *args, **kwargs), self.seconds), count)
        if isinstance(values, Verdict):
            self._warn(values)
            values = self._row_by_row(count, args, kwargs)
        return self._rewards(values, kwargs.get("log_metric"))

    async def call_async(self, *args: Any, **kwargs: Any) -> list[float | None]:
        count = len(kwargs["completions"])
        try:
            result: Any = await asyncio.wait_for(self.function(*args, **kwargs), self.seconds)
        except TimeoutError:
            result = failed(TOO_SLOW, f"took longer than {self.seconds:g} s")
        except Exception as error:  # noqa: BLE001 — a user's function may fail in any way
            result = failed(CRASHED, f"{type(error).__name__}: {error}")
        values = self._values(result, count)
        if isinstance(values, Verdict):
            values = [values] * count
        return self._rewards(values, kwargs.get("log_metric"))

    def _row_by_row(self, count: int, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        values: list[Any] = []
        hung = 0
        seconds = max(LEAST_SECONDS, self.seconds / count)
        for row in range(count):
            if hung >= MOST_TIMEOUTS:
                values.append(failed(NOT_JUDGED, f"{hung} rows took longer than {seconds:g} s each"))
                continue
            own = {name: _of_row(value, row, count) for name, value in kwargs.items()}
            # What a single row logs is no metric of the batch.
            own |= {name: _nothing for name in ("log_metric", "log_extra") if name in own}
            result = attempt(
                functools.partial(self.function, *[_of_row(value, row, count) for value in args], **own),
                seconds,
            )
            value = self._values(result, 1)
            values.append(value if isinstance(value, Verdict) else value[0])
            hung += isinstance(value, Verdict) and value.reason == TOO_SLOW
        return values

    def _values(self, result: Any, count: int) -> list[Any] | Verdict:
        """One value per completion, or why there are none."""
        if isinstance(result, Verdict):
            return result
        try:
            values = list(result)
        except TypeError:
            return failed(NONSENSE, f"returned {type(result).__name__} instead of a list of rewards")
        except Exception as error:  # noqa: BLE001 — a generator runs the function's code here
            return failed(CRASHED, f"{type(error).__name__}: {error}")
        if len(values) != count:
            return failed(NONSENSE, f"returned {len(values)} values for {count} completions")
        return values

    def _rewards(
        self, values: Sequence[Any], log_metric: Callable[[str, float], None] | None
    ) -> list[float | None]:
        """Numbers, None or `FAILED`; failures are counted and, once of a kind, warned of."""
        reasons: Counter[str] = Counter()
        rewards: list[float | None] = []
        for value in values:
            reward = _number(value)
            if isinstance(reward, Verdict):
                self._warn(reward)
                reasons[reward.reason] += 1
            failure = isinstance(reward, Verdict) or (reward is None and self._none_fails)
            rewards.append(FAILED if failure else reward)
        self._reasons |= reasons.keys()
        if log_metric is not None:
            for reason in sorted(self._reasons):
                log_metric(f"verifier/{self.name}: {reason}", reasons[reason] / len(values))
        return rewards

    def _warn(self, failure: Verdict) -> None:
        if failure.reason not in self._reasons:
            logger.warning(
                "reward function '%s': %s: %s. The rollouts it fails on leave their groups; their fraction is logged as "
                "verifier/errors",
                self.name,
                failure.reason,
                failure.error,
            )
            self._reasons.add(failure.reason)


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
