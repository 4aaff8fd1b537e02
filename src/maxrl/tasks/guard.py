"""Verdicts from verifiers that may crash, hang or return nonsense: such a one costs its own rollouts, nothing else."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from maxrl.tasks.base import Task, Verdict
from maxrl.tasks.time_limits import TimeLimit, TimeUpError, comes_from_a_signal, told

logger = logging.getLogger(__name__)

CRASHED, TOO_SLOW, NONSENSE, NOT_JUDGED = (
    "verifier crashed",
    "verifier too slow",
    "verifier returned nonsense",
    "not judged after a verifier that hung",
)
FAILURES = (CRASHED, TOO_SLOW, NONSENSE, NOT_JUDGED)
"""Every `reason` of an error that is not the task's own."""

NO_REASON = "verifier failed"
"""Counts errors whose `reason` the task left empty."""

BATCH_SHARE = 0.1
"""Of `time_limit`, what each completion adds to the time that `score_many` may take: many workers share a batch."""

MOST_TIMEOUTS = 3
"""Verdicts of one call that may run out of time; the others of the call are then left unjudged."""

_MOST_KINDS = 20
"""Warnings of one `FailureLog`: errors that differ in every word must not flood a log."""
_LONGEST_ERROR = 500


def judge(
    task: Task,
    truths: Sequence[Mapping[str, Any]],
    completions: Sequence[str],
    *,
    batch_failed: Callable[[str], object] | None = None,
) -> list[Verdict]:
    """A verdict per completion, whatever the task does.

    A verifier that crashes, takes longer than `task.time_limit` or returns nonsense (no `Verdict`, a field of another
    type, a reward that is NaN, infinite or no number, a reward and an error at once) gives an error, whose `reason` is one
    of `FAILURES`. A batch that fails as a whole (`score_many` raises, returns too few, or takes longer than `batch_seconds`)
    is judged one by one; of these the third that runs out of time is the last. What passes is `KeyboardInterrupt`, whatever
    else a signal handler of the program raises (`SystemExit` on SIGTERM, say), and the time limit of whoever called.

    Args:
        task: whose verifier it is.
        truths: what the verifier sees of each problem.
        completions: one for each of `truths`.
        batch_failed: told why `score_many` failed, as `FailureLog.tell_batch` is; by default it is logged, each time.
    """
    if type(task).score_many is not Task.score_many:
        verdicts = _judge_batch(task, truths, completions)
        if not isinstance(verdicts, Verdict):
            return verdicts
        problem = f"score_many failed on {len(completions)} completions: {verdicts.error}"
        if batch_failed is not None:
            batch_failed(problem)
        else:
            FailureLog(f"task {task.name}", "").tell_batch(problem)
    hung = 0
    judged: list[Verdict] = []
    for truth, completion in zip(truths, completions, strict=True):
        if hung >= MOST_TIMEOUTS:
            judged.append(failed(NOT_JUDGED, f"{hung} of this batch took longer than {task.time_limit:g} s"))
            continue
        call = partial(task.score, truth, completion)
        judged.append(checked_verdict(attempt(call, task.time_limit, f"task {task.name}: score")))
        hung += judged[-1].reason == TOO_SLOW
    return judged


def batch_seconds(task: Task, completions: int) -> float:
    """How long `score_many` may take: `task.time_limit`, and for large batches a tenth of it per completion."""
    return task.time_limit * max(1.0, BATCH_SHARE * completions)


def _judge_batch(
    task: Task, truths: Sequence[Mapping[str, Any]], completions: Sequence[str]
) -> list[Verdict] | Verdict:
    """The verdicts of `score_many`, or an error that says why there are none."""

    def call() -> list[Verdict] | Verdict:
        verdicts = task.score_many(truths, completions)
        if len(verdicts) != len(completions):
            return failed(NONSENSE, f"returned {len(verdicts)} verdicts")
        return [checked_verdict(verdict) for verdict in verdicts]

    return attempt(call, batch_seconds(task, len(completions)), f"task {task.name}: score_many")


def attempt(call: Callable[[], Any], seconds: float, what: str = "a verifier") -> Any:
    """What a call returns, or the error it ends with as a `Verdict`."""
    limit = TimeLimit(seconds, what)
    result: Any = None
    try:
        with limit:
            result = call()
    except TimeUpError as up:
        if up.limit is not limit:  # the limit of whoever called
            raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # foreign code may fail in any way, sys.exit() included
        if comes_from_a_signal(error):
            raise
        logger.debug("%s failed", what, exc_info=True)
        result = failed(CRASHED, told(error))
    # Whatever came of it once its time was up, a verdict from an `except:` say, is not to be trusted.
    return failed(TOO_SLOW, f"took longer than {seconds:g} s") if limit.rang else result


class FailureLog:
    """Warns of errors, once for each kind of them: they are no zeros, and must not pass unseen.

    A kind is the `reason` with the first word of the error (an exception's type, say); without a reason, the error's first
    words.

    Args:
        who: what the warnings begin with.
        consequence: what they end with.
    """

    def __init__(self, who: str, consequence: str) -> None:
        self._who = who
        self._consequence = consequence
        self._warned: set[str] = set()

    def tell(self, verdicts: Sequence[Verdict], completions: int | None = None) -> None:
        """Warn of what is new among the errors of these verdicts, which are those of so many completions: by default all."""
        kinds: dict[str, list[Verdict]] = {}
        for verdict in verdicts:
            if verdict.error is not None:
                words = verdict.error.split()[: 1 if verdict.reason else 3]
                kinds.setdefault(" ".join([verdict.reason, *words]), []).append(verdict)
        for kind, errors in kinds.items():
            count = len(verdicts) if completions is None else completions
            self._warn(
                kind,
                f"{len(errors)} of {count} completions got no verdict: {reason_of(errors[0])}: {errors[0].error}",
                self._consequence,
            )

    def tell_batch(self, problem: str) -> None:
        """Warn of a batch that failed as a whole, once for each kind of failure."""
        self._warn(f"batch {problem.partition(': ')[2].split()[:1]}", problem, "They are judged one by one")

    def tell_blocked(self) -> None:
        """Warn, once, of an asynchronous function that blocks."""
        self._warn(
            "blocks",
            "is asynchronous, but blocks",
            "Await what takes time (asyncio.sleep, asyncio.to_thread)",
        )

    def _warn(self, kind: str, text: str, consequence: str) -> None:
        if kind in self._warned or len(self._warned) >= _MOST_KINDS:
            return
        self._warned.add(kind)
        logger.warning("%s: %s. %s", self._who, " ".join(text.split())[:_LONGEST_ERROR], consequence)


def reason_of(verdict: Verdict) -> str:
    """The phrase that a verdict is counted under; "" for a success."""
    return verdict.reason or (NO_REASON if verdict.error is not None else "")


def checked_verdict(verdict: object) -> Verdict:
    """The verdict, or an error where it is none."""
    if not isinstance(verdict, Verdict):
        return failed(NONSENSE, f"returned {shown(verdict)} instead of a Verdict")
    flaw = _flaw(verdict)
    return failed(NONSENSE, flaw) if flaw else verdict


def _flaw(verdict: Verdict) -> str:
    """What is wrong with a verdict; "" where nothing is. Its fields may hold anything."""
    success, reward, reason, error, components = cast(
        "tuple[object, ...]",
        (verdict.success, verdict.reward, verdict.reason, verdict.error, verdict.components),
    )
    if not isinstance(success, bool):
        return f"returned {shown(success)} for the success"
    if not isinstance(reason, str):
        return f"returned {shown(reason)} for the reason"
    if not isinstance(components, Mapping):
        return f"returned {shown(components)} for the components"
    for name, value in cast("Mapping[object, object]", components).items():
        if not isinstance(name, str) or not is_reward(value):
            return f"returned the component {shown(name)}: {shown(value)}"
    if error is None:
        return "" if is_reward(reward) else f"returned the reward {shown(reward)}"
    if not isinstance(error, str):
        return f"returned {shown(error)} for the error"
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


def shown(value: object) -> str:
    """A value for a message, without running any code of its own."""
    kind = type(value).__name__
    if type(value) is str:
        return f"{kind} {value[:60]!r}"
    return f"{kind} {value!r}" if type(value) in (bool, float) else kind  # whose repr may do anything
